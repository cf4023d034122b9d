"""Scans side by side: the results, the order and the isolation of one by one."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan, endless_scan
from numpy.typing import NDArray

from ct3d_edge.errors import ProviderError
from ct3d_edge.inference.predict import ScanResult
from ct3d_edge.inference.predict_many import Schedule, predict_scans
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import ModelOutputs, Runner

STATUS = Path("/proc/self/status")

PLANS = {
    "one after the other": Schedule(0, False, 1, 0, 1),
    "one reads ahead": Schedule(1, False, 1, 2, 1),
    "batches of three": Schedule(2, False, 1, 5, 3),
    "a batch larger than the folder": Schedule(3, False, 1, 1, 500),
    "two whole": Schedule(2, True, 1, 4, 1),
    "five whole": Schedule(5, True, 1, 2, 1),
}


def without_times(analyses: Iterator[ScanResult]) -> list[ResultRecord]:
    return [replace(analysis.record, timing=Timing()) for analysis in analyses]


@pytest.fixture
def scans(mixed_folder: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> list[Path]:
    """Good and broken scans, twenty more good ones that all differ, and one that is not there."""
    for number in range(20):
        make_scan(f"{number + 10}.nii.gz", voxels=np.roll(hu, number, axis=2) + np.int16(number), folder=mixed_folder)
    return [*find_scans([mixed_folder]), mixed_folder / "absent.nii"]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_any_plan_gives_the_records_of_one_after_the_other(scans: list[Path], runner: Runner, plan: Schedule) -> None:
    assert without_times(predict_scans(scans, runner, plan)) == without_times(predict_scans(scans, runner))
    allow = ["no_orientation"]
    expected = without_times(predict_scans(scans, runner, checker=QualityChecker(runner.contract, allow)))
    found = without_times(predict_scans(scans, runner, plan, checker=QualityChecker(runner.contract, allow)))
    assert found == expected
    twice = [record.scan for record in found if "duplicate" in {flag.code for flag in record.flags}]
    assert str(scans[0]) not in twice
    assert any(scan.endswith("08_good.nii") for scan in twice)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_nothing_to_do_gives_nothing(runner: Runner, plan: Schedule) -> None:
    assert list(predict_scans([], runner, plan)) == []


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_known_records_are_taken_over_in_their_place(scans: list[Path], runner: Runner, plan: Schedule) -> None:
    first = [analysis.record for analysis in predict_scans(scans, runner)]
    known = {record.scan: record for record in first[::2] if record.key}
    again = [analysis.record for analysis in predict_scans(scans, runner, plan, known_records=known)]
    assert [record.scan for record in again] == [record.scan for record in first]
    assert [record is known.get(record.scan) for record in again] == [record.scan in known for record in first]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_no_thread_is_left(scans: list[Path], runner: Runner, plan: Schedule) -> None:
    before = threading.active_count()
    analyses = predict_scans(scans, runner, plan)
    next(analyses)
    analyses.close()
    assert len(list(predict_scans(scans, runner, plan))) == len(scans)
    assert threading.active_count() == before


class Faulty(Runner):
    """A session with a fault of ct3d-edge's own, met by scans that are brighter than others."""

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        if (volumes.mean(axis=(1, 2, 3)) > 0.9).any():
            raise ZeroDivisionError("division by zero")
        return super().outputs(volumes)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_fault_met_by_a_batch_is_pinned_on_its_scan(
    make_scan: MakeScan, make_model: MakeModel, plan: Schedule, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = make_scan(name="b.nii", voxels=np.full((6, 6, 6), 400, np.int16))
    scans = [make_scan(name="a.nii"), bright, make_scan(name="c.nii")]
    with Faulty(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as faulty:
        records = [analysis.record for analysis in predict_scans(scans, faulty, plan)]
    assert [record.status for record in records] == ["ok", "error", "ok"]
    assert records[1].failure is not None
    assert records[1].failure.code == "internal"
    assert capsys.readouterr().err.count("Traceback") == 1


class OutOfMemory(Runner):
    """A session whose device has room for two volumes."""

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        if len(volumes) > 2:
            raise ProviderError("Failed to allocate memory.")
        return super().outputs(volumes)


def test_a_batch_that_the_session_cannot_hold_says_what_would_help(scans: list[Path], make_model: MakeModel) -> None:
    good = [scan for scan in scans if scan.name[:2] in ("10", "11", "12", "13")]
    with OutOfMemory(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as small:
        assert len(list(predict_scans(good, small, Schedule(1, False, 1, 2, 2)))) == 4
        with pytest.raises(ProviderError, match="The batch held 4 scans; a smaller `batch_size`"):
            list(predict_scans(good, small, Schedule(1, False, 1, 2, 4)))


def test_each_of_a_batch_has_its_share_of_the_time(scans: list[Path], runner: Runner) -> None:
    good = [scan for scan in scans if scan.name[:2] in ("10", "11", "12", "13")]
    times = [a.record.timing.infer for a in predict_scans(good, runner, Schedule(1, False, 1, 2, 4))]
    assert len(set(times)) == 1
    assert None not in times


class Failing(Runner):
    """A session that breaks at its third run."""

    runs = 0

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        self.runs += 1
        if self.runs == 3:
            raise ProviderError("CUDA error 719")
        return super().outputs(volumes)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_session_that_breaks_ends_the_run_after_what_came_before(
    scans: list[Path], make_model: MakeModel, plan: Schedule
) -> None:
    before = threading.active_count()
    done: list[ResultRecord] = []
    with Failing(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as session:
        if plan.batch > 30:
            session.runs = 2
        with pytest.raises(ProviderError, match="CUDA error 719"):
            done.extend(analysis.record for analysis in predict_scans(scans, session, plan))
    assert [record.scan for record in done] == [str(scan) for scan in scans[: len(done)]]
    assert threading.active_count() == before


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    return endless_scan(tmp_path / "slow")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_scan_that_takes_too_long_is_named_and_the_others_are_answered(
    endless: Path, make_scan: MakeScan, runner: Runner, plan: Schedule
) -> None:
    scans = [make_scan("a.nii"), endless, make_scan("b.nii"), make_scan("c.nii")]
    before = threading.active_count()
    records = [analysis.record for analysis in predict_scans(scans, runner, plan, timeout_s=0.3)]
    assert [record.status for record in records] == ["ok", "error", "ok", "ok"]
    assert records[1].failure is not None
    assert records[1].failure.code == "timeout"
    assert "endless.nii was not finished within 0.3 s" in records[1].failure.message
    assert records[1].key is None, "it is tried again by --resume"
    assert threading.active_count() == before, "it noticed by itself and ended"


def test_an_interrupted_folder_drops_what_is_in_flight(endless: Path, make_scan: MakeScan, runner: Runner) -> None:
    before = threading.active_count()
    analyses = predict_scans([make_scan("a.nii"), endless, endless], runner, PLANS["two whole"])
    assert next(analyses).record.status == "ok"
    with pytest.raises(KeyboardInterrupt):
        analyses.throw(KeyboardInterrupt())
    assert threading.active_count() == before


class Stuck(Runner):
    """A session that hangs on dark scans, as a driver may, where nothing can be asked to stop."""

    release = threading.Event()

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        if volumes.mean() < 0.1:
            self.release.wait()
        return super().outputs(volumes)


def test_a_thread_that_hangs_is_given_up_and_replaced(make_scan: MakeScan, make_model: MakeModel) -> None:
    dark = make_scan("dark.nii", voxels=np.full((6, 6, 6), -1000, np.int16))
    scans = [dark, make_scan("a.nii"), dark, dark, make_scan("b.nii"), make_scan("c.nii")]
    with Stuck(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as session:
        analyses = predict_scans(scans, session, PLANS["two whole"], timeout_s=0.2)
        records = [next(analyses).record for _ in scans]
        session.release.set()
        assert next(analyses, None) is None
    codes = [record.failure.code if record.failure else None for record in records]
    assert codes == ["timeout", None, "timeout", "timeout", None, None]
    assert [record.scan for record in records] == [str(scan) for scan in scans]
    deadline = time.monotonic() + 30
    while any(thread.name == "ct3d-edge scan" for thread in threading.enumerate()):
        assert time.monotonic() < deadline


def test_a_scan_replaced_while_it_is_read_is_no_answer(
    make_scan: MakeScan, runner: Runner, hu: NDArray[np.int16]
) -> None:
    """Half of one file and half of another must not become one result."""
    scan, other = make_scan("scan.nii"), make_scan("other.nii", voxels=hu[:, :, ::-1])
    blocks = iter(range(1000))

    def replace_in_the_middle() -> None:
        if next(blocks) == 5:
            scan.write_bytes(other.read_bytes())

    reading = prepare_scan(scan, runner.contract, replace_in_the_middle)
    assert reading.model_input is None
    assert reading.failed is not None
    assert (reading.failed[0], reading.failed[1].code) == ("error", "modified_during_read")
    assert prepare_scan(scan, runner.contract).failed is None


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc to see the memory in use")
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_memory_is_flat_over_a_thousand_scans(
    make_scan: MakeScan, tmp_path: Path, runner: Runner, plan: Schedule
) -> None:
    scan, broken = make_scan(voxels=np.zeros((64, 64, 32), np.int16)), tmp_path / "broken.nii.gz"
    broken.write_bytes(scan.read_bytes()[:-50])
    plan = replace(plan, batch=min(plan.batch, 100))
    sizes = []
    for number, _ in enumerate(predict_scans([scan, scan, scan, broken] * 250, runner, plan), 1):
        if number % 100 == 0:
            sizes.append(resident_bytes())
    assert len(sizes) == 10
    assert max(sizes[3:]) - sizes[2] < 8 << 20, "a thousand of these scans hold 260 MB"


def resident_bytes() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
