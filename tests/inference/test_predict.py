import importlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError
from ct3d_edge.inference.predict import classify, predict_scan
from ct3d_edge.inference.predict_many import predict_scans
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.results.formats import to_jsonl
from ct3d_edge.results.record import Timing
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import ModelOutputs, Runner

MakeFolder = Callable[[], Path]

EXPECTED = {
    "01_good.nii.gz": ("ok", None),
    "02_empty.nii.gz": ("error", "empty"),
    "03_tilted_or_not_said.nii": ("refused", "no_orientation"),
    "04_flat.nii": ("refused", "two_dimensional"),
    "05_cut.nii.gz": ("error", "truncated"),
    "06_all_nan.nii": ("refused", "non_finite"),
    "07_text.nii": ("error", "not_nifti"),
    "08_good.nii": ("ok", None),
}


class Faulty(Runner):
    """A session with a fault of ct3d-edge's own, met by scans that are brighter than others."""

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        if volumes.mean() > 0.9:
            raise ZeroDivisionError("division by zero")
        return super().outputs(volumes)


def with_weights(path: Path, name: str, value: float) -> Path:
    """A copy of a model file in which one tensor is filled with ``value``."""
    proto = onnx.load(path)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    filled = np.full_like(numpy_helper.to_array(tensor), value)
    tensor.CopyFrom(numpy_helper.from_array(filled, name))
    changed = path.with_name("changed.onnx")
    onnx.save(proto, changed)
    return changed


def test_broken_scans_cost_no_other_its_result_and_order_is_kept(mixed_folder: Path, runner: Runner) -> None:
    records = [analysis.record for analysis in predict_scans(find_scans([mixed_folder]), runner)]
    found = {
        Path(record.scan).name: (record.status, record.failure.code if record.failure else None) for record in records
    }
    assert found == EXPECTED
    assert [Path(record.scan).name for record in records] == list(EXPECTED)


def test_a_record_has_either_an_answer_or_a_failure(mixed_folder: Path, runner: Runner) -> None:
    for analysis in predict_scans(find_scans([mixed_folder]), runner):
        record = analysis.record
        assert (record.prediction is None) is (record.failure is not None)
        assert record.has_prediction is (record.status in ("ok", "warn"))
        assert (analysis.model_input is not None) is record.has_prediction
        assert json.loads(to_jsonl([record]))["status"] == record.status


def test_the_same_scan_gets_the_same_answer_alone_and_among_broken_ones(mixed_folder: Path, runner: Runner) -> None:
    among = {
        analysis.record.scan: analysis.record.prediction
        for analysis in predict_scans(find_scans([mixed_folder]), runner)
    }
    for name in ("01_good.nii.gz", "08_good.nii"):
        path = mixed_folder / name
        assert predict_scan(path, runner).record.prediction == among[str(path)]


def test_scans_are_analysed_one_at_a_time(make_scan: MakeScan, tmp_path: Path, runner: Runner) -> None:
    """A result is there before the next scan is even looked for."""
    results = predict_scans(iter([make_scan(), tmp_path / "comes_later.nii"]), runner)
    assert next(results).record.status == "ok"
    make_scan(name="comes_later.nii")
    assert next(results).record.status == "ok"


def test_nothing_to_do_gives_nothing(runner: Runner) -> None:
    assert list(predict_scans([], runner)) == []


def test_the_answer_is_the_networks(make_scan: MakeScan, runner: Runner) -> None:
    path = make_scan()
    analysis = predict_scan(path, runner)
    expected = runner.infer(preprocess(read_nifti(path), runner.contract).volume[None])[0]
    assert analysis.record.prediction == classify(expected, runner.contract)
    assert analysis.model_input is not None
    assert analysis.model_input.volume.shape == runner.contract.shape
    assert 0 < expected[0] < 1


def test_a_record_says_how_it_was_obtained(make_scan: MakeScan, runner: Runner) -> None:
    record = predict_scan(make_scan(), runner).record
    assert record.model_sha256 == runner.model.sha256
    assert record.contract_sha256 == runner.contract.sha256
    assert (record.requested, record.actual) == ("cpu", "cpu")


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("01_good.nii.gz", ["read", "preprocess", "infer"]),
        ("05_cut.nii.gz", ["read"]),
        ("04_flat.nii", []),
        ("06_all_nan.nii", ["read"]),
    ],
)
def test_stages_that_were_not_reached_have_no_time(
    mixed_folder: Path, runner: Runner, name: str, reached: list[str]
) -> None:
    timing = predict_scan(mixed_folder / name, runner).record.to_dict()["timing_ms"]
    stages = [stage for stage in ("read", "preprocess", "infer") if timing[stage] is not None]
    assert stages == reached
    assert timing["total"] == sum(timing[stage] for stage in reached)


def test_every_second_belongs_to_one_stage(
    make_scan: MakeScan, hu: NDArray[np.int16], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by a second whenever it is read: hash, header, each plane and the end are reading."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    for name in ("ct3d_edge.inference.predict", "ct3d_edge.inference.prepare", "ct3d_edge.scan.streamed_scan"):
        monkeypatch.setattr(importlib.import_module(name), "time", clock)
    timing = predict_scan(make_scan(), runner).record.timing
    readings = 1 + hu.shape[2] + 1
    assert timing == Timing(read=(1 + readings) * 1000, preprocess=(readings + 1) * 1000, infer=1000)


def test_flags_travel_into_the_record(make_scan: MakeScan, runner: Runner) -> None:
    path = make_scan(affine=None)
    renamed = path.rename(path.with_name("scan.nii"))
    record = predict_scan(renamed, runner).record
    assert (record.status, record.failure and record.failure.code) == ("refused", "no_orientation")
    assert [flag.code for flag in record.flags] == ["extension_mismatch", "no_orientation"]


def test_a_missing_file_is_an_error_record(tmp_path: Path, runner: Runner) -> None:
    record = predict_scan(tmp_path / "none.nii", runner).record
    assert record.failure is not None
    assert (record.status, record.failure.code) == ("error", "not_found")


def test_a_fault_of_our_own_costs_one_scan_and_shows_its_traceback(
    make_scan: MakeScan, make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = make_scan(name="bright.nii", voxels=np.full((6, 6, 6), 400, np.int16))
    scans = [make_scan(name="a.nii"), bright, make_scan(name="z.nii")]
    with Faulty(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as faulty:
        first, second, third = (analysis.record for analysis in predict_scans(scans, faulty))
    assert (first.status, third.status) == ("ok", "ok")
    assert second.failure is not None
    assert (second.status, second.failure.code) == ("error", "internal")
    assert "ZeroDivisionError" in second.failure.message
    assert second.timing.preprocess is not None
    assert second.timing.infer is None
    assert "Traceback" in capsys.readouterr().err


def test_a_known_fault_shows_no_traceback(
    mixed_folder: Path, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(list(predict_scans(find_scans([mixed_folder]), runner))) == len(EXPECTED)
    assert capsys.readouterr().err == ""


def test_an_interrupt_is_not_swallowed(make_scan: MakeScan, make_model: MakeModel) -> None:
    class Interrupted(Runner):
        def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
            raise KeyboardInterrupt(volumes.shape)

    with (
        Interrupted(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as session,
        pytest.raises(KeyboardInterrupt),
    ):
        predict_scan(make_scan(), session)


@pytest.mark.parametrize("tensor", ["kernel", "head"])
def test_a_network_that_gives_nan_gives_no_answer(make_scan: MakeScan, make_model: MakeModel, tensor: str) -> None:
    broken = with_weights(make_model(), tensor, np.nan)
    with Runner(load_model_file(broken), SessionRequest("cpu", threads=1)) as session:
        record = predict_scan(make_scan(), session).record
    assert record.failure is not None
    assert (record.status, record.failure.code) == ("refused", "non_finite_output")
    assert record.prediction is None
    assert record.timing.infer is not None


def test_a_network_with_three_classes_answers_without_a_threshold(make_scan: MakeScan, make_model: MakeModel) -> None:
    labels = ("clear", "unsure", "ill")
    with Runner(load_model_file(make_model(labels=labels, outputs=3)), SessionRequest("cpu", threads=1)) as session:
        answer = predict_scan(make_scan(), session).record.prediction
    assert answer is not None
    assert tuple(label for label, _ in answer.probability) == labels
    assert sum(probability for _, probability in answer.probability) == pytest.approx(1)
    assert answer.confidence == max(probability for _, probability in answer.probability)
    assert answer.threshold is None


@pytest.mark.parametrize(("threshold", "label"), [(0.0, "abnormal"), (1.0, "normal")])
def test_the_contracts_threshold_decides(
    make_scan: MakeScan, make_model: MakeModel, threshold: float, label: str
) -> None:
    with Runner(load_model_file(make_model(threshold=threshold)), SessionRequest("cpu", threads=1)) as session:
        answer = predict_scan(make_scan(), session).record.prediction
    assert answer is not None
    assert (answer.label, answer.threshold) == (label, threshold)


@pytest.mark.parametrize(("p", "label"), [(0.0, "normal"), (0.49, "normal"), (0.5, "abnormal"), (1.0, "abnormal")])
def test_decide_keeps_the_contracts_order(p: float, label: str) -> None:
    answer = classify(np.array([1 - p, p]), Contract())
    assert answer.label == label
    assert answer.probability == (("normal", 1 - p), ("abnormal", p))
    assert answer.threshold == 0.5


@pytest.mark.parametrize("values", [[np.nan, np.nan], [0.5, np.nan], [np.inf, 0], [-np.inf, 1]])
def test_decide_refuses_what_is_no_probability(values: list[float]) -> None:
    with pytest.raises(RefusedScanError) as caught:
        classify(np.array(values), replace(Contract(), threshold=0))
    assert caught.value.code == "non_finite_output"


def test_what_reading_noticed_survives_a_refusal(runner: Runner, make_scan: MakeScan) -> None:
    plain = make_scan("nan.nii", voxels=np.full((6, 6, 6), np.nan, np.float32))
    misnamed = plain.rename(plain.with_name("nan.nii.gz"))
    record = predict_scan(misnamed, runner).record
    assert record.failure is not None
    assert record.failure.code == "non_finite"
    assert [flag.code for flag in record.flags] == ["extension_mismatch"]
