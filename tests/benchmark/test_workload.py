import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import MakeModel, MakeScan

from ct3d_edge.benchmark.workload import STAGES, ScanWorkload, prepare_network_input
from ct3d_edge.errors import UsageError
from ct3d_edge.inference.load_model import load_model
from ct3d_edge.latency.measure import StageTimer, WallClock
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner


class SpyingClock(WallClock):
    """The machine's clock, which keeps each time it gives."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def now(self) -> int:
        self.times.append(super().now())
        return self.times[-1]


def without_times(record: ResultRecord) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(record.to_dict()))
    assert set(data.pop("timing_ms")) == {field.name for field in fields(Timing)} | {"total"}
    return data


def test_the_stages_of_a_scan_add_up_to_its_whole_time(make_model: MakeModel, make_scan: MakeScan) -> None:
    clock = SpyingClock()
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        timer = StageTimer(clock)
        record = ScanWorkload(runner, [make_scan("a.nii.gz")]).predict(0, timer)
    began, ended = clock.times
    assert sum(timer.stages.values()) == pytest.approx((ended - began) / 1e6)
    assert tuple(timer.stages) == STAGES
    assert all(ms > 0 for ms in timer.stages.values())
    assert {name: timer.stages[name] for name in ("read", "infer")} == {
        "read": record.timing.read,
        "infer": record.timing.infer,
    }


@pytest.mark.parametrize("bundled", [False, True], ids=["a model", "the bundled model"])
def test_a_scan_is_given_the_record_that_infer_gives_it(
    make_model: MakeModel, make_scan: MakeScan, bundled: bool
) -> None:
    model, scan = default_model_path() if bundled else make_model(), make_scan("a.nii.gz")
    with Runner(load_model_file(model), SessionRequest("cpu")) as runner, load_model(model, "cpu") as opened:
        timed = [ScanWorkload(runner, [scan]).predict(number, StageTimer(WallClock())) for number in range(2)]
        plan = opened.make_schedule(1, workers=1)
        (result,) = opened.iter_results([scan], plan)
    assert without_times(timed[0]) == without_times(timed[1]) == without_times(result.record)
    assert any(flag.code == "demonstration_model" for flag in timed[0].flags) is bundled


def test_scans_are_taken_in_turn(make_model: MakeModel, make_scan: MakeScan) -> None:
    scans = [make_scan("a.nii.gz"), make_scan("b.nii.gz")]
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        workload = ScanWorkload(runner, scans)
        records = [workload.predict(number, StageTimer(WallClock())) for number in range(3)]
    assert [record.scan for record in records] == [str(scans[0]), str(scans[1]), str(scans[0])]


def test_a_scan_without_a_prediction_is_no_run(make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        with pytest.raises(UsageError, match=r"cannot use .*empty.nii.gz \("):
            ScanWorkload(runner, [tmp_path / "empty.nii.gz"]).predict(0, StageTimer(WallClock()))
        with pytest.raises(UsageError, match=r"cannot use .*empty.nii.gz \("):
            prepare_network_input(tmp_path / "empty.nii.gz", runner.contract)


def test_the_network_input_has_a_batch_axis(make_model: MakeModel, make_scan: MakeScan) -> None:
    contract = load_model_file(make_model()).contract
    volume = prepare_network_input(make_scan("a.nii.gz"), contract)
    assert volume.shape == (1, *contract.shape)
    assert volume.dtype == np.float32
