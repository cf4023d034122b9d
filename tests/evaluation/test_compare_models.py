"""Two real models on real files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import ANY_SCAN, ANY_SCAN_KERAS, MakeModel
from graded import THRESHOLD
from networks import KERAS
from onnx import numpy_helper

from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.evaluation.compare_models import compare_models, record_evidence
from ct3d_edge.evaluation.evaluation import evaluate
from ct3d_edge.modelfile.comparison_evidence import ComparisonEvidence, read_run_evidence, to_json
from ct3d_edge.modelfile.golden_input import make_phantom_volume

QUICK = 100

needs_keras = pytest.mark.skipif(not KERAS, reason="needs the extra 'train'")


@pytest.fixture
def opposite(make_model: MakeModel) -> Path:
    """A .onnx file that ranks scans the other way round than ``model`` does."""
    path = make_model("opposite.onnx", threshold=THRESHOLD)
    proto = onnx.load(path)
    (head,) = [tensor for tensor in proto.graph.initializer if tensor.name == "head"]
    head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), "head"))
    onnx.save(proto, path)
    return path


def test_both_sides_are_evaluated_on_the_same_scans(model: Path, opposite: Path, folder: Path) -> None:
    found = compare_models(model, opposite, folder, config=ANY_SCAN, resamples=QUICK)
    assert found.model == evaluate(model, folder, config=ANY_SCAN, resamples=QUICK)
    assert found.reference == evaluate(opposite, folder, config=ANY_SCAN, resamples=QUICK)
    assert found.figures.auc == pytest.approx(4 / 9)
    assert found.figures.reference_auc == pytest.approx(5 / 9)
    assert [pair.model.scan for pair in found.pairs] == [scan.scan for scan in found.model.scans]


@needs_keras
def test_a_provider_concerns_the_onnx_file_beside_a_run(model: Path, run: Path, folder: Path) -> None:
    for first, second in ((model, run), (run, model)):
        found = compare_models(first, second, folder, config=ANY_SCAN, resamples=QUICK)
        assert sorted(side.run_by.split(",")[0] for side in (found.model, found.reference)) == ["Keras", "ONNX Runtime"]
    with pytest.raises(UsageError, match=r"A provider runs \.onnx files"):
        compare_models(run, run, folder, config=ANY_SCAN, resamples=QUICK)


def test_other_labels_are_refused_before_any_scan_is_read(model: Path, make_model: MakeModel, tmp_path: Path) -> None:
    other = make_model("other.onnx", labels=("healthy", "ill"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"predicts normal, abnormal and .*other\.onnx healthy, ill"):
        compare_models(model, other, tmp_path / "empty", config=ANY_SCAN)


@pytest.mark.parametrize("margin", [-0.01, 1.0, float("nan")])
def test_a_margin_that_is_no_difference_of_areas_is_refused(model: Path, folder: Path, margin: float) -> None:
    with pytest.raises(UsageError, match="A margin is a difference of AUC"):
        compare_models(model, model, folder, margin=margin)


@needs_keras
def test_scans_that_taught_either_one_are_no_test(run: Path, model: Path, scans: Path) -> None:
    for first, second, name in ((run, model, "model"), (model, run, "reference")):
        found = compare_models(first, second, scans, config=ANY_SCAN, resamples=QUICK)
        assert f"6 of the 24 scans are training scans of the {name}." in found.invalid_because
        assert f"12 of the 24 scans are validation scans of the {name}." in found.invalid_because
    own = run / "split.json"
    found = compare_models(run, model, scans, split=own, config=ANY_SCAN, resamples=QUICK)
    assert found.invalid_because == ()
    found = compare_models(run, model, scans, split=own, subset="validation", config=ANY_SCAN, resamples=QUICK)
    assert "validation scans" in found.invalid_because[0]


@needs_keras
def test_a_run_keeps_the_evidence_of_its_own_comparison(run: Path, model: Path, scans: Path, tmp_path: Path) -> None:
    split = run / "split.json"
    found = compare_models(run, model, scans, split=split, config=ANY_SCAN, resamples=QUICK, margin=0.5)
    file = record_evidence(found, run, student=True)
    assert file == run / "comparison.json"
    assert read_run_evidence(file) == found.evidence(student=True)
    with pytest.raises(UsageError, match="is no training run"):
        record_evidence(found, model)
    with pytest.raises(CheckFailedError, match="no evidence"):
        record_evidence(replace(found, invalid_because=("It was trained on them.",)), run)


@needs_keras
def test_the_same_run_differs_by_nothing_from_itself(run: Path, scans: Path) -> None:
    found = compare_models(run, run, scans, split=run / "split.json", config=ANY_SCAN_KERAS, resamples=QUICK)
    assert found.figures.auc_difference.value == 0
    assert found.figures.agreement.value == 1
    assert found.differing == ()


def test_progress_covers_both_models(model: Path, opposite: Path, folder: Path) -> None:
    calls: list[str] = []
    compare_models(
        model, opposite, folder, config=ANY_SCAN, resamples=QUICK, progress=lambda *call: calls.append(call[2])
    )
    assert calls.count("Predicting scans") == 12
    assert calls.count("Resampling AUC difference") == QUICK


def test_the_json_of_a_comparison_is_plain(model: Path, opposite: Path, folder: Path) -> None:
    found = compare_models(model, opposite, folder, config=ANY_SCAN, resamples=QUICK)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert np.isfinite(data["comparison"]["auc_difference"]["standard_error"])


@needs_keras
def test_an_exported_file_holds_the_comparison_of_its_weights_only(
    run: Path, model: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ct3d_edge.conversion.export import export_model
    from ct3d_edge.conversion.keras_loader import load_keras_source
    from ct3d_edge.conversion.parity.parity_data import ParityDataset

    def export() -> dict[str, Any]:
        source = load_keras_source(run)
        volumes = [make_phantom_volume(seed, source.contract.shape) for seed in range(8)]
        return export_model(source, tmp_path / "run.onnx", ParityDataset(volumes, "golden volumes")).model.provenance

    found = compare_models(run, model, scans, split=run / "split.json", config=ANY_SCAN, resamples=QUICK)
    file = record_evidence(found, run)
    assert ComparisonEvidence.from_dict(export()["comparison"], "It") == found.evidence()
    file.write_text(to_json(replace(found.evidence(), model_sha256="0" * 64)))
    caplog.clear()
    assert "comparison" not in export()
    assert any("is of another model" in message for message in caplog.messages)
