from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ANY_SCAN, ANY_SCAN_KERAS
from networks import SaveNetwork, tiny_network

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.errors import DatasetError, ModelError, UsageError
from ct3d_edge.evaluation.evaluation import evaluate
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import read_split, write_split
from ct3d_edge.temperature_scaling import apply_temperature_to_scores

QUICK = 100


@pytest.fixture
def save_network(tmp_path: Path) -> SaveNetwork:
    def save(network: Any = None, name: str = "bare.keras") -> Path:
        path = tmp_path / name
        (tiny_network() if network is None else network).save(path)
        return path

    return save


def set_contract(run: Path, **changes: float) -> Contract:
    file = run / "contract.json"
    changed = replace(Contract.from_json(file.read_text()), **changes)  # type: ignore[arg-type]
    file.write_text(changed.to_json())
    return changed


def export(run: Path, out: Path) -> Path:
    source = load_keras_source(run)
    volumes = (make_phantom_volume(seed, source.contract.shape) for seed in range(8))
    assert export_model(source, out, ParityDataset(volumes, "golden volumes")).parity.passed
    return out


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
def test_a_run_and_its_exported_file_get_the_same_evaluation(
    run: Path, scans: Path, tmp_path: Path, temperature: float
) -> None:
    set_contract(run, temperature=temperature, threshold=0.6)
    onnx = export(run, tmp_path / "run.onnx")
    split = run / "split.json"
    by_keras = evaluate(run, scans, config=ANY_SCAN_KERAS, split=split, resamples=QUICK)
    by_onnx = evaluate(onnx, scans, split=split, config=ANY_SCAN, resamples=QUICK)
    assert by_onnx.contract == by_keras.contract
    assert [v.scan for v in by_onnx.scans] == [v.scan for v in by_keras.scans]
    assert [v.probability for v in by_onnx.scans] == pytest.approx([v.probability for v in by_keras.scans], abs=1e-5)
    assert by_onnx.figures.confusion == by_keras.figures.confusion
    for name in ("auc", "brier", "ece"):
        assert vars(getattr(by_onnx.figures, name)) == pytest.approx(vars(getattr(by_keras.figures, name)), abs=1e-5)


def test_an_exported_file_proves_itself_with_its_temperature(run: Path, scans: Path, tmp_path: Path) -> None:
    plain = [
        v.probability
        for v in evaluate(run, scans, config=ANY_SCAN_KERAS, split=run / "split.json", resamples=QUICK).scans
    ]
    set_contract(run, temperature=3.0)
    file = load_model_file(export(run, tmp_path / "run.onnx"))
    assert file.contract.temperature == 3.0
    with Runner(file, SessionRequest("cpu")) as runner:
        assert run_golden_test(runner).largest_difference < 1e-5
    found = evaluate(file.path, scans, split=run / "split.json", config=ANY_SCAN, resamples=QUICK)
    assert [v.probability for v in found.scans] == pytest.approx(apply_temperature_to_scores(plain, 3.0), abs=1e-5)


def test_a_bare_keras_file_is_judged_under_the_default_contract(save_network: SaveNetwork, scans: Path) -> None:
    found = evaluate(save_network(), scans, config=ANY_SCAN_KERAS, resamples=QUICK)
    assert len(found.scans) == 24
    assert "came without a contract" in found.remarks[0]
    assert found.run_by == "Keras"


def test_judging_a_run_on_all_its_scans_is_warned_of_with_the_count(run: Path, scans: Path) -> None:
    for model in (run, run / "model.keras"):
        taught, chose, offer = evaluate(model, scans, config=ANY_SCAN_KERAS, resamples=QUICK).warnings[:3]
        assert "6 of the 24 scans are training scans of this model" in taught
        assert "12 of the 24 scans are validation scans of this model" in chose
        assert f"give that split: {run / 'split.json'}" in offer


def test_a_split_that_tests_on_what_taught_the_run_is_warned_of(run: Path, scans: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    write_split(other, create_split(scans, seed=1, validation=0.25, test=0.5))
    tested = {entry.sha256 for entry in read_split(other).test}
    taught = len(tested & {entry.sha256 for entry in read_split(run / "split.json").train})
    assert taught
    found = evaluate(run, scans, config=ANY_SCAN_KERAS, split=other, resamples=QUICK)
    assert f"{taught} of the 12 scans are training scans of this model" in found.warnings[0]


def test_the_runs_own_test_subset_is_a_test(run: Path, scans: Path) -> None:
    found = evaluate(run, scans, config=ANY_SCAN_KERAS, split=run / "split.json", resamples=QUICK)
    assert not any("scans of this model" in warning for warning in found.warnings)
    assert len(found.scans) == 6


def test_a_provider_runs_no_keras_model(run: Path, scans: Path) -> None:
    with pytest.raises(UsageError, match=r"A provider runs \.onnx files"):
        evaluate(run, scans, config=ANY_SCAN)


def test_a_keras_model_of_three_classes_is_refused(save_network: SaveNetwork, scans: Path) -> None:
    path = save_network(tiny_network(outputs=3, activation="softmax"))
    with pytest.raises(ModelError, match="has 3 classes"):
        evaluate(path, scans)


def test_a_keras_model_that_answers_nan_has_no_figures(save_network: SaveNetwork, scans: Path) -> None:
    network = tiny_network()
    network.layers[-1].set_weights([np.full_like(w, np.nan) for w in network.layers[-1].get_weights()])
    with pytest.raises((DatasetError, ModelError), match=r"NaN or infinity|nan"):
        evaluate(save_network(network), scans)


def test_a_folder_that_is_no_run_is_told(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="There is no Keras model"):
        evaluate(tmp_path / "empty", scans)
