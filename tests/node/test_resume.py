"""A node goes on from whatever an earlier one left in its spool."""

import itertools
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import DOWNGRADE_ALL, MakeModel
from pydicom import dcmread

from bench.node_peers import ROOT, TIMEOUT_S, Archive, NodeProcess, wait_for
from ct3d_edge.errors import ProviderError
from ct3d_edge.inference.model import Model
from ct3d_edge.node import predictor
from ct3d_edge.node.arrival import Arrival
from ct3d_edge.node.config import Completion
from ct3d_edge.node.spool import Spool, open_spool

from .conftest import LIMITS, MakeSeries, RunningNode, StartNode, read_records, send, wait_for_records


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def put(series: Path, folder: Path) -> Path:
    """What a node has stored of a series."""
    folder.mkdir(parents=True)
    for path in series.iterdir():
        shutil.copy(path, folder / f"{dcmread(path).SOPInstanceUID}.dcm")
    return folder


def wait_until_done(node: RunningNode, name: str = "1.2.3-1") -> None:
    wait_for((node.spool / "series" / name / ".done").exists, "the series is done")


def test_series_that_was_arriving_is_completed(start_node: StartNode, make_series: MakeSeries, spool: Path) -> None:
    put(make_series(), spool / "receiving" / "1.2.3")
    (spool / "receiving" / "1.2.9").mkdir()
    (spool / "incoming").mkdir()
    (spool / "incoming" / "half").write_bytes(b"half an instance")
    node = start_node()
    wait_until_done(node)
    assert len(node.records(1)) == 1
    assert list((spool / "incoming").iterdir()) == []


def test_series_that_was_complete_is_predicted(start_node: StartNode, make_series: MakeSeries, spool: Path) -> None:
    put(make_series(), spool / "series" / "1.2.3-1")
    node = start_node(completion=Completion(stable_for=600))
    wait_until_done(node)
    (record,) = node.records(1)
    assert record.has_prediction


def test_record_without_a_mark_is_not_predicted_again_but_reported(
    start_node: StartNode, make_series: MakeSeries, archive: Archive, spool: Path
) -> None:
    put(make_series(), spool / "series" / "1.2.3-1")
    first = start_node(destinations=(archive.peer,))
    wait_until_done(first)
    first.stop()
    (kept,) = (spool / "reports").iterdir()
    uid = dcmread(kept).SOPInstanceUID
    (spool / "series" / "1.2.3-1" / ".done").unlink()
    shutil.rmtree(spool / "reports")
    shutil.rmtree(spool / "outbox")
    shutil.move(spool, spool.with_name("moved"))
    archive.start()
    second = start_node(spool.with_name("moved"), destinations=(archive.peer,))
    wait_until_done(second)
    (report,) = archive.wait_for_reports(1)
    assert dcmread(report).SOPInstanceUID == uid
    assert len(read_records(second.spool)) == 1


def test_report_that_an_earlier_version_wrote_keeps_its_uid(
    start_node: StartNode, make_series: MakeSeries, archive: Archive, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(make_series(), spool / "series" / "1.2.3-1")
    first = start_node(destinations=(archive.peer,))
    wait_until_done(first)
    first.stop()
    (kept,) = (spool / "reports").iterdir()
    content = kept.read_bytes()
    (spool / "series" / "1.2.3-1" / ".done").unlink()
    monkeypatch.setattr("ct3d_edge.report.dicom.identity.version", lambda _: "99.0")
    archive.start()
    wait_until_done(start_node(destinations=(archive.peer,)))
    (report,) = archive.wait_for_reports(1)
    assert dcmread(report).SOPInstanceUID == dcmread(kept).SOPInstanceUID
    assert kept.read_bytes() == content


def test_series_that_ended_the_process_again_and_again_is_given_up(
    start_node: StartNode, make_series: MakeSeries, spool: Path
) -> None:
    (put(make_series(), spool / "series" / "1.2.3-1") / ".attempts").write_bytes(b".....")
    node = start_node()
    wait_until_done(node)
    (record,) = node.records(1)
    assert record.failure is not None
    assert record.failure.code == "worker_died"


DEADLY_SERIES = """
import os, signal, sys

def end(event, arguments):
    if event == "open" and "/series/1.2.66-1/1" in str(arguments[0]):
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.endswith("inference/prepare.py"):
                os.kill(os.getpid(), signal.SIGKILL)
            frame = frame.f_back

sys.addaudithook(end)
"""
"""A sitecustomize.py: whoever prepares that series is killed, as by a defect in a decoder or the OOM killer."""


def test_series_that_ends_the_process_costs_no_other_its_prediction(
    tmp_path: Path, make_model: MakeModel, make_series: MakeSeries, spool: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEADLY_SERIES)
    for uid in ("1.2.66", "1.2.67"):
        put(make_series(uid), spool / "series" / f"{uid}-1")
    (spool / "series" / "1.2.67-1" / ".attempts").write_bytes(b"....")  # beside it each time
    path = f"PYTHONPATH={tmp_path / 'site'}:{ROOT}"
    node = NodeProcess(spool, make_model(), *DOWNGRADE_ALL, "--workers", "1", prefix=("env", path))
    try:
        assert node.process.wait(TIMEOUT_S) == -9
        node.restart().wait_until_listening()
        records = {Path(record.scan).name: record for record in wait_for_records(spool, 2)}
    finally:
        node.kill()
    assert records["1.2.67-1"].has_prediction
    failure = records["1.2.66-1"].failure
    assert failure is not None
    assert failure.code == "worker_died"


@pytest.mark.slow
def test_node_that_stops_ends_the_second_process_without_a_record(
    tmp_path: Path, make_model: MakeModel, make_series: MakeSeries, spool: Path
) -> None:
    (tmp_path / "site").mkdir()
    slow = DEADLY_SERIES.replace("os.kill(os.getpid(), signal.SIGKILL)", "__import__('time').sleep(60)")
    (tmp_path / "site" / "sitecustomize.py").write_text(slow)
    folder = put(make_series("1.2.66"), spool / "series" / "1.2.66-1")
    (folder / ".attempts").write_bytes(b".")
    path = f"PYTHONPATH={tmp_path / 'site'}:{ROOT}"
    node = NodeProcess(spool, make_model(), *DOWNGRADE_ALL, prefix=("env", path))
    try:
        node.wait_until_listening()
        wait_for(lambda: "in a second process" in node.log.read_text(), "the second process")
        time.sleep(3)  # it imports, opens the model, and begins
        assert node.interrupt() == 0
    finally:
        node.kill()
    assert (folder / ".attempts").read_bytes() == b"."
    assert read_records(spool) == []
    assert "Traceback" not in node.log.read_text()


def test_error_of_the_provider_is_no_fault_of_a_series(
    start_node: StartNode, make_series: MakeSeries, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "RETRY_DELAY_S", 0.01)
    calls, predict = itertools.count(), Model.iter_results

    def fail_at_first(model: Model, scans: Any, schedule: Any, **options: Any) -> Any:
        if next(calls) < 20:
            raise ProviderError("The GPU is lost.")
        return predict(model, scans, schedule, **options)

    monkeypatch.setattr(Model, "iter_results", fail_at_first)
    for uid in ("1.2.3", "1.2.4"):
        put(make_series(uid), spool / "series" / f"{uid}-1")
    assert all(record.has_prediction for record in start_node().records(2))


def test_stop_during_a_prediction_is_not_counted(
    start_node: StartNode, make_series: MakeSeries, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.node.node.SHUTDOWN_S", 0.1)
    go_on, begun, predict = threading.Event(), threading.Event(), Model.iter_results

    def wait(model: Model, scans: Any, schedule: Any, **options: Any) -> Any:
        begun.set()
        go_on.wait(TIMEOUT_S)
        return predict(model, scans, schedule, **options)

    monkeypatch.setattr(Model, "iter_results", wait)
    folder = put(make_series(), spool / "series" / "1.2.3-1")
    node = start_node()
    assert begun.wait(TIMEOUT_S)
    node.stop()
    go_on.set()
    assert (folder / ".attempts").read_bytes() == b""
    assert read_records(spool) == []


def test_number_of_an_arrival_that_was_removed_is_not_used_again(
    start_node: StartNode, make_series: MakeSeries, spool: Path
) -> None:
    put(make_series(), spool / "series" / "1.2.3-1")
    first = start_node()
    wait_until_done(first)
    first.stop()
    shutil.rmtree(spool / "series" / "1.2.3-1")
    second = start_node()
    assert send(second.port, sorted(make_series().iterdir())[:-1]).returncode == 0
    wait_until_done(second, "1.2.3-2")
    assert [Path(record.scan).name for record in read_records(spool)] == ["1.2.3-1", "1.2.3-2"]


def test_large_file_of_records_is_set_aside_and_still_counts(
    start_node: StartNode, make_series: MakeSeries, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.node.node.HOUSEKEEPING_S", 0.1)
    put(make_series(), spool / "series" / "1.2.3-1")
    first = start_node(limits=replace(LIMITS, max_results_bytes=1))
    wait_until_done(first)
    wait_for((spool / "results.1.jsonl").exists, "the file of former records")
    put(make_series("1.2.4"), spool / "receiving" / "1.2.4")
    first.stop()
    assert read_records(spool) == []
    (spool / "series" / "1.2.3-1" / ".done").unlink()
    second = start_node(limits=replace(LIMITS, max_results_bytes=1 << 20))
    wait_until_done(second)
    wait_until_done(second, "1.2.4-1")
    assert [Path(record.scan).name for record in read_records(spool)] == ["1.2.4-1"], "1.2.3-1 has its record"


def test_numbers_are_forgotten_with_the_records_that_name_them(spool: Path) -> None:
    def arrive(opened: Spool) -> int:
        (opened.receiving / "1.2.3").mkdir()
        (opened.receiving / "1.2.3" / "1.dcm").touch()
        arrival = opened.complete("1.2.3")
        assert arrival is not None
        return arrival.number

    with open_spool(spool) as opened:
        opened.reserve(Arrival("1.2.3", 7))
        opened.forget_former_numbers()
        assert arrive(opened) == 8
        opened.forget_former_numbers()
        opened.forget_former_numbers()
        assert arrive(opened) == 9, "8 is in the spool"
        opened.remove(Arrival("1.2.3", 8))
        opened.remove(Arrival("1.2.3", 9))
        opened.forget_former_numbers()
        opened.forget_former_numbers()
        assert arrive(opened) == 1


def test_strange_files_in_the_spool_are_left_alone(start_node: StartNode, make_series: MakeSeries, spool: Path) -> None:
    for folder in ("receiving", "series"):
        (spool / folder / "lost+found").mkdir(parents=True)
        (spool / folder / ".DS_Store").write_bytes(b"")
    put(make_series(), spool / "series" / "1.2.3-1")
    node = start_node()
    wait_until_done(node)
    assert (spool / "series" / "lost+found").is_dir()
