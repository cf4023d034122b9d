"""A node goes on from whatever an earlier one left in its spool."""

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread

from bench.node_peers import Archive, wait_for
from ct3d_edge.node.config import Completion

from .conftest import MakeSeries, RunningNode, StartNode, read_records, send


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


def test_series_that_ended_the_process_again_and_again_is_given_up(
    start_node: StartNode, make_series: MakeSeries, spool: Path
) -> None:
    (put(make_series(), spool / "series" / "1.2.3-1") / ".attempts").write_bytes(b".....")
    node = start_node()
    wait_until_done(node)
    (record,) = node.records(1)
    assert record.failure is not None
    assert record.failure.code == "worker_died"


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


def test_strange_files_in_the_spool_are_left_alone(start_node: StartNode, make_series: MakeSeries, spool: Path) -> None:
    for folder in ("receiving", "series"):
        (spool / folder / "lost+found").mkdir(parents=True)
        (spool / folder / ".DS_Store").write_bytes(b"")
    put(make_series(), spool / "series" / "1.2.3-1")
    node = start_node()
    wait_until_done(node)
    assert (spool / "series" / "lost+found").is_dir()
