import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from builders import ANY_SCAN, MakeModel, tiny_proto
from graded import BRIGHT, DARK, THRESHOLD, GradedFolder
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom
from ct3d_edge.errors import DatasetError, MissingExtraError, ModelError, UsageError
from ct3d_edge.evaluation.evaluation import Evaluation, evaluate
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.load_model import load_model
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import read_split, write_split

QUICK = 100


@pytest.fixture
def evaluation(model: Path, folder: Path) -> Evaluation:
    return evaluate(model, folder, config=ANY_SCAN, resamples=QUICK)


@pytest.fixture
def split(folder: Path, tmp_path: Path) -> Path:
    """Two scans in each subset."""
    path = tmp_path / "split.json"
    write_split(path, create_split(folder, validation=0.34, test=0.33))
    return path


def test_every_scan_of_a_folder_is_judged_as_inference_would(evaluation: Evaluation, model: Path, folder: Path) -> None:
    assert [(v.scan.partition("/")[0], v.truth, v.prediction) for v in evaluation.scans] == [
        ("normal", 0, 0),
        ("normal", 0, 0),
        ("normal", 0, 1),
        ("abnormal", 1, 1),
        ("abnormal", 1, 1),
        ("abnormal", 1, 0),
    ]
    with Runner(load_model_file(model), SessionRequest("cpu")) as runner:
        for verdict in evaluation.scans:
            volume = preprocess(read_nifti(folder / verdict.scan), runner.contract).volume
            assert verdict.probability == pytest.approx(runner.infer(volume[None])[0, 1])


def test_figures_by_hand(evaluation: Evaluation) -> None:
    figures = evaluation.figures
    assert (figures.sensitivity.count, figures.specificity.count, figures.accuracy.count) == (2, 2, 4)
    assert figures.majority == 0.5
    assert figures.auc.value == pytest.approx(4 / 9)  # dark over bright; the darkest is normal, the brightest abnormal
    assert evaluation.classes == (("normal", "normal"), ("abnormal", "abnormal"))


def test_the_json_is_plain_and_complete(evaluation: Evaluation) -> None:
    data = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert data["schema"] == 1
    assert data["figures"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert data["figures"]["roc"]["thresholds"][0] is None
    assert [scan["correct"] for scan in data["scans"]] == [True, True, False, True, True, False]
    assert data["model"]["threshold"] == THRESHOLD
    assert any("Few scans" in warning for warning in data["warnings"])


@pytest.mark.parametrize("subset", ["train", "validation", "test", None])
def test_a_split_names_the_scans(model: Path, folder: Path, split: Path, subset: str | None) -> None:
    found = evaluate(model, folder, split=split, subset=subset, config=ANY_SCAN, resamples=QUICK)  # type: ignore[arg-type]
    expected = read_split(split).subset(subset or "test")  # type: ignore[arg-type]
    assert [verdict.scan for verdict in found.scans] == [entry.path for entry in expected]
    assert found.subset == (subset or "test")


def test_a_split_beside_its_scans_needs_no_folder(model: Path, folder: Path, split: Path) -> None:
    beside = folder / "split.json"
    split.rename(beside)
    assert len(evaluate(model, split=beside, config=ANY_SCAN, resamples=QUICK).scans) == 2


def test_a_split_elsewhere_does(model: Path, split: Path) -> None:
    with pytest.raises(UsageError, match=r"split\.json names scans relative to the folder .* Name the folder, too"):
        evaluate(model, split=split)


def test_without_split_and_folder_there_are_no_scans(model: Path) -> None:
    with pytest.raises(UsageError, match="Name the folder with the two class folders"):
        evaluate(model)


def test_a_subset_belongs_to_a_split(model: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="A subset belongs to a split"):
        evaluate(model, folder, subset="validation")


def test_a_split_that_does_not_fit_the_folder_is_refused(model: Path, graded: GradedFolder, split: Path) -> None:
    other = graded("other", normal=[BRIGHT, 0], abnormal=[DARK, -800])
    with pytest.raises(DatasetError, match="does not match the split"):
        evaluate(model, other, split=split)


def test_a_changed_test_scan_is_refused(model: Path, folder: Path, split: Path) -> None:
    first = read_split(split).test[0].path
    other = read_split(split).test[1].path
    (folder / first).write_bytes((folder / other).read_bytes())
    with pytest.raises(DatasetError, match="changed since"):
        evaluate(model, folder, split=split)


def test_an_empty_test_subset_is_told_with_what_there_is(model: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "without.json"
    write_split(path, create_split(folder, validation=0.34))
    with pytest.raises(
        DatasetError, match=r"test subset .* has 0 of normal, 0 of abnormal .*4 train, 2 validation, 0 t"
    ):
        evaluate(model, folder, split=path)


def test_one_class_only_is_refused(model: Path, folder: Path, split: Path) -> None:
    whole = read_split(split)
    entries = tuple(e for e in whole.entries if e.subset != "test" or e.label == "normal")
    left_out = [e.path for e in whole.entries if e not in entries]
    write_split(split, replace(whole, entries=entries))
    for path in left_out:
        (folder / path).unlink()
    with pytest.raises(DatasetError, match="1 of normal, 0 of abnormal"):
        evaluate(model, folder, split=split)


def test_a_folder_of_one_class_is_refused(model: Path, graded: GradedFolder) -> None:
    with pytest.raises(DatasetError, match="must hold exactly 2 folders"):
        evaluate(model, graded(normal=[BRIGHT, 0]))


def test_the_same_content_counts_once_and_under_both_classes_not_at_all(model: Path, folder: Path) -> None:
    scan = next((folder / "normal").iterdir())
    (folder / "normal" / "again.nii.gz").write_bytes(scan.read_bytes())
    found = evaluate(model, folder, config=ANY_SCAN, resamples=QUICK)
    assert len(found.scans) == 6
    assert len(found.duplicates) == 1
    (folder / "abnormal" / "again.nii.gz").write_bytes(scan.read_bytes())
    with pytest.raises(DatasetError, match="nder both classes"):
        evaluate(model, folder)


def test_a_folder_named_after_the_other_label_is_refused(model: Path, graded: GradedFolder) -> None:
    """In alphabetical order, abnormal would count as normal."""
    with pytest.raises(DatasetError, match="class folder abnormal would count as 'normal'"):
        evaluate(model, graded(healthy=[BRIGHT, 0], abnormal=[DARK, -800]))


def test_other_folder_names_are_taken_by_order(model: Path, graded: GradedFolder) -> None:
    data = graded(**{"CT-0": [BRIGHT, 0], "CT-23": [DARK, -800]})
    found = evaluate(model, data, config=ANY_SCAN, resamples=QUICK)
    assert found.classes == (("CT-0", "normal"), ("CT-23", "abnormal"))
    assert found.figures.auc.value == 1


def test_bad_scans_stop_or_are_left_out_by_name(model: Path, folder: Path) -> None:
    (folder / "normal" / "broken.nii.gz").write_bytes(b"no scan at all" * 100)
    with pytest.raises(DatasetError, match=r"1 of 7 scans cannot be used.*\n.*normal/broken\.nii\.gz"):
        evaluate(model, folder, config=ANY_SCAN)
    found = evaluate(model, folder, config=ANY_SCAN, skip_bad=True, resamples=QUICK)
    assert [scan.path for scan in found.left_out] == ["normal/broken.nii.gz"]
    assert len(found.scans) == 6


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_model_that_answers_nan_has_no_figures(
    contract: Contract, folder: Path, tmp_path: Path, skip_bad: bool
) -> None:
    proto = tiny_proto(contract)
    (head,) = [tensor for tensor in proto.graph.initializer if tensor.name == "head"]
    head.CopyFrom(numpy_helper.from_array(np.full((2, 1), np.nan, np.float32), "head"))
    path = tmp_path / "nan.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(DatasetError, match="The network gave NaN or infinity"):
        evaluate(path, folder, config=ANY_SCAN, skip_bad=skip_bad)


def test_three_classes_are_refused(make_model: MakeModel, folder: Path) -> None:
    model = make_model(labels=("a", "b", "c"), outputs=3)
    with pytest.raises(ModelError, match=r"has 3 classes \(a, b, c\)"):
        evaluate(model, folder, config=ANY_SCAN)


def test_a_model_of_two_outputs_is_judged_by_the_second(make_model: MakeModel, folder: Path) -> None:
    found = evaluate(make_model(outputs=2), folder, config=ANY_SCAN, resamples=QUICK)
    assert len({verdict.probability for verdict in found.scans}) == 6


def test_what_is_no_model_is_wrong_usage(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.h5").touch()
    with pytest.raises(UsageError, match=r"a \.onnx file, a \.keras file or the folder"):
        evaluate(tmp_path / "model.h5", folder)


def test_the_loudest_warning_comes_first(make_model: MakeModel, folder: Path) -> None:
    found = evaluate(make_model(temperature=100.0), folder, config=ANY_SCAN, resamples=QUICK)
    assert "nearly the same for every scan" in found.warnings[0]
    assert "predicts normal for every scan" in found.warnings[1]


def test_the_temperature_moves_probabilities_but_not_the_order(make_model: MakeModel, folder: Path) -> None:
    plain = evaluate(make_model("a.onnx"), folder, config=ANY_SCAN, resamples=QUICK)
    sharp = evaluate(make_model("b.onnx", temperature=0.2), folder, config=ANY_SCAN, resamples=QUICK)
    assert sharp.figures.auc == plain.figures.auc
    assert sharp.figures.brier != plain.figures.brier


def test_tells_how_far_it_is(model: Path, folder: Path) -> None:
    calls: list[tuple[int, int | None, str]] = []
    evaluate(model, folder, config=ANY_SCAN, resamples=QUICK, progress=lambda *call: calls.append(call))
    assert [(n, total) for n, total, what in calls if what == "Predicting scans"] == [(n, 6) for n in range(1, 7)]
    assert len(calls) == 6 + 6 + 3 * QUICK


def test_without_scikit_learn_the_extra_is_named(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"needs scikit-learn.*pip install .*\[evaluate\]"):
        evaluate(model, folder)


def test_a_scan_that_infer_refuses_is_refused_here_too(model: Path, tmp_path: Path) -> None:
    """Inverted HU, which a network answers all the same."""
    affine = np.diag([-3.0, 3.0, 9.0, 1.0])
    for name, seed, sign in (("normal/a", 1, 1), ("normal/b", 3, -1), ("abnormal/c", 2, 1)):
        path = tmp_path / "scans" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        phantom = make_phantom(seed, abnormal=seed == 2, shape=(128, 128, 32))
        nib.Nifti1Image((sign * phantom.hu).astype(np.int16), affine).to_filename(path)
    config = InferenceConfig("cpu", allow=frozenset({"spacing"}))
    with pytest.raises(DatasetError, match=r"1 of 3 scans cannot be used(.|\n)*normal/b\.nii\.gz: .*air"):
        evaluate(model, tmp_path / "scans", config=config, resamples=QUICK)
    left = evaluate(model, tmp_path / "scans", config=config, skip_bad=True, resamples=QUICK)
    assert [scan.path for scan in left.left_out] == ["normal/b.nii.gz"]
    record = load_model(model, "cpu").predict_many([tmp_path / "scans" / "normal" / "b.nii.gz"])
    assert [each.status for each in record] == ["refused"]
