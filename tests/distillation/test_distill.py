"""From a teacher and its scans to a student, in a resumable training run; and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from training.conftest import plain, write_scan

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.distillation.distill import distill, load_teacher
from ct3d_edge.distillation.search import Target
from ct3d_edge.errors import CheckFailedError, DatasetError, ModelError, UsageError
from ct3d_edge.modelfile.comparison_evidence import read_run_evidence
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.progress import no_progress
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import read_split, write_split
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.data import prepare_scans
from ct3d_edge.training.estimate import DurationEstimate
from ct3d_edge.training.fit import train
from ct3d_edge.training.history import EpochDone
from ct3d_edge.training.network import NetworkSpec
from ct3d_edge.training.teacher import DistillationSettings
from ct3d_edge.training.teacher_inputs import prepare_for_teacher
from ct3d_edge.training.unlabelled import find_unlabelled

PRESET = plain(epochs=60, patience=60, learning_rate=0.03, batch_size=4, momentum=0.5, calibrate=True)


def predictions(model: Path, scans: Path, names: list[str]) -> NDArray[np.float64]:
    source = load_keras_source(model)
    volumes = [preprocess(read_nifti(scans / name), source.contract).volume for name in names]
    return np.array([source.probabilities(volume)[1] for volume in volumes])


def test_a_student_agrees_with_its_teacher_on_scans_that_neither_saw(
    teacher: Path, scans: Path, networks: Path, tmp_path: Path
) -> None:
    estimates: list[DurationEstimate] = []
    made = distill(
        teacher, scans, tmp_path / "small", PRESET, network=f"{networks}:small", on_estimate=estimates.append
    )
    run = made.run
    assert run.split == read_split(teacher / "split.json")
    assert len(estimates) == 1
    assert estimates[0].epochs == 60
    assert estimates[0].seconds > 0
    student = keras.saving.load_model(run.model, safe_mode=True)
    assert student.count_params() < load_keras_source(teacher).network.count_params() / 3
    test = [entry.path for entry in run.split.test]
    untrained = tmp_path / "untrained.keras"
    keras.utils.set_random_seed(0)
    fresh = keras.models.clone_model(student)
    fresh.save(untrained)
    expected = predictions(teacher, scans, test)
    before, after = (np.abs(predictions(path, scans, test) - expected).mean() for path in (untrained, run.folder))
    assert after < before / 2
    comparison = made.comparison
    assert comparison is not None
    assert comparison.figures.scans == (3, 3)
    assert read_run_evidence(run.folder / "comparison.json").student
    contract = Contract.from_json((run.folder / "contract.json").read_text())
    own = load_keras_source(teacher).contract
    assert (contract.shape, contract.labels, contract.hu_window) == (own.shape, own.labels, own.hu_window)
    assert contract.training_range is not None
    assert run.calibration.startswith("calibrated on the 6")


def test_a_teacher_without_a_run_and_a_contract_of_its_own(
    teacher: Path, scans: Path, networks: Path, tmp_path: Path
) -> None:
    (tmp_path / "teacher.keras").write_bytes((teacher / "model.keras").read_bytes())
    options: dict[str, Any] = {"network": f"{networks}:small", "precision": "mixed_bfloat16"}
    made = distill(tmp_path / "teacher.keras", scans, tmp_path / "small", plain(), **options)
    assert not made.run.split.test
    with pytest.raises(CheckFailedError, match="was not compared with its teacher"):
        made.require_non_inferior()
    with pytest.raises(UsageError, match="are compared on test scans of both classes, and the split has none"):
        distill(tmp_path / "teacher.keras", scans, tmp_path / "other", plain(), require_comparison=True, **options)


def test_an_estimate_changes_nothing(teacher: Path, scans: Path, networks: Path, tmp_path: Path) -> None:
    preset = plain(epochs=2, learning_rate=0.01)
    losses = []
    for name, on_estimate in (("a", None), ("b", list[DurationEstimate]().append)):
        options: dict[str, Any] = {"network": f"{networks}:small", "on_estimate": on_estimate, "seed": 3}
        run = distill(teacher, scans, tmp_path / name, preset, **options).run
        losses.append([(epoch.loss, epoch.val_loss) for epoch in run.epochs])
    assert losses[0] == losses[1]


def test_an_interrupted_distillation_ends_as_a_whole_one(
    teacher: Path, scans: Path, networks: Path, tmp_path: Path
) -> None:
    preset = plain(epochs=3, learning_rate=0.01, augmentation="small-changes")
    options: dict[str, Any] = {"network": f"{networks}:small", "seed": 3, "cache": tmp_path / "cache"}
    whole = distill(teacher, scans, tmp_path / "whole", preset, **options).run

    def stop(event: EpochDone) -> None:
        if event.record.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(teacher, scans, tmp_path / "part", preset, on_epoch=stop, **options)
    other = DistillationSettings(temperature=5.0)
    with pytest.raises(UsageError, match=r"distillation was .*'temperature': 2\.0"):
        distill(teacher, scans, tmp_path / "part", preset, settings=other, resume=True, **options)
    split = teacher / "split.json"
    with pytest.raises(UsageError, match="teacher_sha256 was"):
        train(scans, tmp_path / "part", preset, size=(10, 10, 10), split=split, resume=True, **options)
    part = distill(teacher, scans, tmp_path / "part", preset, resume=True, **options).run
    assert [epoch.loss for epoch in part.epochs] == [epoch.loss for epoch in whole.epochs]
    for found, expected in zip(
        keras.saving.load_model(part.model).get_weights(),
        keras.saving.load_model(whole.model).get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_test_scans_of_the_teacher_are_refused(teacher: Path, scans: Path, networks: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "other.json", create_split(scans, validation=0.25, seed=9))
    with pytest.raises(DatasetError, match=r"Test scans of the teacher among those to train or validate on: 6 .*\n  "):
        distill(teacher, scans, tmp_path / "small", plain(), network=f"{networks}:small", split=tmp_path / "other.json")
    assert not (tmp_path / "small").exists()


def test_a_teacher_that_predicts_the_same_for_all_scans(
    teacher: Path, scans: Path, networks: Path, tmp_path: Path
) -> None:
    network = keras.saving.load_model(teacher / "model.keras")
    network.layers[-1].set_weights([np.zeros((16, 1)), np.ones(1)])
    network.save(teacher / "model.keras")
    with pytest.raises(ModelError, match=r"predicts abnormal with probability 0\.731 for all of 12 training scans"):
        distill(teacher, scans, tmp_path / "small", plain(), network=f"{networks}:small")


def test_folders_with_the_names_of_the_other_labels(teacher: Path, tmp_path: Path) -> None:
    for label, name in enumerate(("abnormal", "zero")):
        for n in range(4):
            write_scan(tmp_path / "other" / name / f"{n}.nii.gz", seed=50 + 10 * label + n, ball=not label)
    write_split(tmp_path / "other.json", create_split(tmp_path / "other", validation=0.5))
    with pytest.raises(DatasetError, match="class folder abnormal would count as 'normal', the model's other class"):
        distill(teacher, tmp_path / "other", tmp_path / "small", plain(), split=tmp_path / "other.json")


def test_a_teacher_of_three_classes(scans: Path, tmp_path: Path) -> None:
    layers = [keras.Input((6, 6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential(layers).save(tmp_path / "three.keras")
    with pytest.raises(ModelError, match="has 3 classes"):
        distill(tmp_path / "three.keras", scans, tmp_path / "small", plain())


def test_without_a_scan_folder(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Name the folder with the two class folders"):
        distill(teacher, None, tmp_path / "small", plain())


def test_too_small_an_input_for_a_network_by_name(teacher: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input width is 10 voxels; .* at least 46"):
        distill(teacher, scans, tmp_path / "small", plain(), network="narrow")


def test_a_student_with_a_smaller_input(teacher: Path, scans: Path, networks: Path, tmp_path: Path) -> None:
    opened = replace(load_teacher(teacher, DistillationSettings()), student_size=(8, 8, 7))
    preset = plain(epochs=2, augmentation="small-changes")
    options: dict[str, Any] = {
        "network": f"{networks}:small",
        "split": teacher / "split.json",
        "cache": tmp_path / "cache",
    }
    run = train(scans, tmp_path / "small", preset, teacher=opened, **options)
    assert run.contract.shape == (8, 8, 7)
    assert keras.saving.load_model(run.model).input_shape == (None, 8, 8, 7, 1)
    assert len(list((tmp_path / "cache").iterdir())) >= 2 * 18, "the scans in both sizes"


@pytest.mark.parametrize(("network", "left"), [("prune", [2, 2]), ("prune:3-5", [3, 5])])
def test_a_pruned_teacher_is_trained_further(network: str, left: list[int], scans: Path, tmp_path: Path) -> None:
    spec = NetworkSpec("chain", (8, 8), hidden_units=8)
    run = train(scans, tmp_path / "teacher", plain(), network=spec, size=(12, 12, 10))
    made = distill(run.folder, scans, tmp_path / "small", plain(epochs=2), network=network)
    layers = keras.saving.load_model(made.run.model).layers
    assert [layer.filters for layer in layers if isinstance(layer, keras.layers.Conv3D)] == left


def test_pruning_another_kind_of_network(teacher: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no chain of blocks"):
        distill(teacher, scans, tmp_path / "small", plain(), network="prune")


def test_a_target_without_a_search(teacher: Path, scans: Path, networks: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="A target is for `network=auto` and `network=prune`"):
        distill(teacher, scans, tmp_path / "small", plain(), network=f"{networks}:small", target=Target(speedup=2))
    with pytest.raises(UsageError, match="A target is for `network=auto` and `network=prune`"):
        distill(teacher, scans, tmp_path / "small", plain(), network="prune:4", target=Target(speedup=2))
    with pytest.raises(UsageError, match="searched for a target"):
        distill(teacher, scans, tmp_path / "small", plain(), network="auto")


def test_a_margin_out_of_range_is_refused_before_the_training(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`margin=2`"):
        distill(teacher, tmp_path / "scans", tmp_path / "small", plain(), margin=2)
    assert not (tmp_path / "small").exists()


def test_an_unknown_network(teacher: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no network 'pruned'; there are tutorial, narrow, stem, auto, prune, prune:"):
        distill(teacher, scans, tmp_path / "small", plain(), network="pruned")


@pytest.mark.slow
def test_a_network_is_chosen_for_a_target_and_stays_when_resumed(scans: Path, networks: Path, tmp_path: Path) -> None:
    run = train(scans, tmp_path / "teacher", plain(), network=f"{networks}:large", size=(48, 48, 24))
    options: dict[str, Any] = {"network": "auto", "target": Target(size_bytes=120_000)}

    def stop(event: EpochDone) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(run.folder, scans, tmp_path / "small", plain(epochs=2), on_epoch=stop, **options)
    made = distill(run.folder, scans, tmp_path / "small", plain(epochs=2), resume=True, **options)
    assert keras.saving.load_model(made.run.model).count_params() * 4 < 120_000
    assert len(made.run.epochs) == 2


def test_the_teacher_labels_scans_without_a_class(teacher: Path, scans: Path, networks: Path, tmp_path: Path) -> None:
    for n in range(6):
        write_scan(tmp_path / "more" / "deep" / f"{n}.nii.gz", seed=900 + n, ball=n % 2 == 1)
    train_scan = read_split(teacher / "split.json").train[0]
    (tmp_path / "more" / "known.nii.gz").write_bytes((scans / train_scan.path).read_bytes())
    options: dict[str, Any] = {"network": f"{networks}:small", "unlabelled": tmp_path / "more"}
    made = distill(teacher, scans, tmp_path / "small", plain(epochs=2, batch_size=2), **options)
    assert made.run.split == read_split(teacher / "split.json"), "they are in no split"
    assert not (tmp_path / "small" / "cache").exists()
    found = find_unlabelled(tmp_path / "more", made.run.split)
    assert [entry.path for entry in found.entries] == [f"deep/{n}.nii.gz" for n in range(6)]


def test_rows_of_unlabelled_scans_are_training_rows(teacher: Path, scans: Path, tmp_path: Path) -> None:
    for n in range(6):
        write_scan(tmp_path / "more" / f"{n}.nii.gz", seed=900 + n, ball=n % 2 == 1)
    split = read_split(teacher / "split.json")
    opened = load_teacher(teacher, DistillationSettings())
    opened = replace(opened, student_size=(8, 8, 7), unlabelled=find_unlabelled(tmp_path / "more", split))
    with (
        prepare_scans(scans, split, opened.student_contract, tmp_path / "cache") as labelled,
        prepare_for_teacher(opened, scans, labelled, tmp_path / "cache", no_progress, keep=False, skip_bad=False) as (
            arrays,
            large,
        ),
    ):
        assert large is not None
        assert (arrays.volumes.shape, large.shape) == ((24, 8, 8, 7), (24, 10, 10, 10))
        assert arrays.names[12:18] == tuple(f"{n}.nii.gz" for n in range(6))
        expected = predictions(teacher, tmp_path / "more", list(arrays.names[12:18]))
        np.testing.assert_array_equal(arrays.labels[12:18], expected >= 0.5)
        np.testing.assert_array_equal(arrays.labels[18:], labelled.labels[12:])
        data = TrainingData.of(arrays, opened.student_contract, plain(), 0, teacher_volumes=large)
        assert (len(data.training.rows), len(data.validation.rows)) == (18, 6)
        (small, big), _ = next(iter(data.batches(data.training, range(1), data.changes)))
        assert (small.shape[1:], big.shape[1:]) == ((8, 8, 7, 1), (10, 10, 10, 1))


def test_test_scans_among_the_unlabelled_ones_are_refused(
    teacher: Path, scans: Path, networks: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    for n, entry in enumerate(read_split(teacher / "split.json").test[:2]):
        (tmp_path / "more" / f"{n}.nii.gz").write_bytes((scans / entry.path).read_bytes())
    with pytest.raises(DatasetError, match=r"Test or validation scans among the unlabelled ones .*: 2 "):
        distill(teacher, scans, tmp_path / "small", plain(), network=f"{networks}:small", unlabelled=tmp_path / "more")
