"""Reports reach destinations that are away, refuse, come back late, or are another machine's archive."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, Comprehensive3DSRStorage, ParametricMapStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from bench.node_peers import Archive, free_port, wait_for
from ct3d_edge.node import delivery
from ct3d_edge.node.config import Peer
from ct3d_edge.node.delivery import Caller, DeliveryError, UnreachableError

from .conftest import MakeSeries, StartNode, StartProcess, require_program, send, wait_for_records


def outbox(spool: Path, title: str = "ARCHIVE") -> list[Path]:
    return list((spool / "outbox" / title).glob("*.dcm"))


def test_report_waits_for_a_destination_that_is_away_also_through_a_restart(
    start_process: StartProcess, make_series: MakeSeries, archive: Archive
) -> None:
    node = start_process("--send-to", str(archive.peer))
    assert send(node.port, sorted(make_series().iterdir())).returncode == 0
    wait_for_records(node.spool, 1)
    wait_for(lambda: len(outbox(node.spool)) == 1, "a report in the outbox")
    wait_for(lambda: "cannot be reached: Connection refused" in node.log.read_text(), "a line about the destination")
    waiting = dcmread(outbox(node.spool)[0]).SOPInstanceUID
    node.kill()
    archive.start()
    node.restart()
    (report,) = archive.wait_for_reports(1)
    assert dcmread(report).SOPInstanceUID == waiting
    wait_for(lambda: not outbox(node.spool), "an empty outbox")
    assert len(wait_for_records(node.spool, 1)) == 1


def test_report_can_be_printed_by_dcmtk(start_node: StartNode, make_series: MakeSeries, archive: Archive) -> None:
    archive.start()
    node = start_node(destinations=(archive.peer,))
    send(node.port, sorted(make_series().iterdir()))
    (report,) = archive.wait_for_reports(1)
    printed = subprocess.run([require_program("dsrdump"), report], capture_output=True, text=True, check=True)
    (record,) = node.records(1)
    assert record.prediction is not None
    assert record.prediction.label in printed.stdout
    assert not [line for line in printed.stderr.splitlines() if line.startswith("E:")]


def test_every_destination_gets_every_report_whatever_the_others_do(
    start_node: StartNode, make_series: MakeSeries, archive: Archive
) -> None:
    archive.start()
    gone = Peer("GONE", "127.0.0.1", 1)
    node = start_node(destinations=(gone, archive.peer))
    for uid in ("1.2.3", "1.2.4"):
        send(node.port, sorted(make_series(uid).iterdir()))
    archive.wait_for_reports(2)
    wait_for(lambda: len(outbox(node.spool, "GONE")) == 2, "reports for the other")


def test_file_in_the_outbox_that_is_no_report_does_not_keep_others_back(
    start_node: StartNode, make_series: MakeSeries, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.1)
    archive.start()
    node = start_node(destinations=(archive.peer,))
    (node.spool / "outbox" / "ARCHIVE" / "0.dcm").write_bytes(b"no DICOM")
    send(node.port, sorted(make_series().iterdir()))
    archive.wait_for_reports(1)
    assert [path.name for path in outbox(node.spool)] == ["0.dcm"]


@pytest.fixture
def reports_archive() -> Iterator[tuple[Peer, list[str]]]:
    """An archive that takes reports only, and the SOPInstanceUIDs that it got."""
    received: list[str] = []

    def on_store(event: evt.Event) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        return 0

    entity, port = AE(ae_title="ARCHIVE"), free_port()
    entity.add_supported_context(Comprehensive3DSRStorage)
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    yield Peer("ARCHIVE", "127.0.0.1", port), received
    assert server is not None
    server.shutdown()


def test_class_that_a_destination_does_not_take_keeps_no_report_back(
    start_node: StartNode, make_series: MakeSeries, reports_archive: tuple[Peer, list[str]], tmp_path: Path
) -> None:
    peer, received = reports_archive
    node = start_node(destinations=(peer,))
    dataset = dcmread(sorted(make_series("1.2.9").iterdir())[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ParametricMapStorage
    dataset.save_as(tmp_path / "map.dcm")
    os.utime(tmp_path / "map.dcm", (0, 0))
    (tmp_path / "map.dcm").rename(node.spool / "outbox" / "ARCHIVE" / "0_pm.dcm")
    send(node.port, sorted(make_series().iterdir()))
    wait_for(lambda: len(received) == 1, "the report", timeout_s=20)
    wait_for(lambda: [path.name for path in outbox(node.spool)] == ["0_pm.dcm"], "the map alone in the outbox")


def test_what_a_destination_does_not_take_is_one_line_of_the_log(
    start_node: StartNode,
    make_series: MakeSeries,
    reports_archive: tuple[Peer, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(delivery, "MAX_DELAY_S", 0.05)
    caplog.set_level("INFO", delivery.__name__)
    attempts: list[str] = []
    send_file = Caller.send

    def send_counted(caller: Caller, peer: Peer, report: Path) -> None:
        attempts.append(report.stem)
        send_file(caller, peer, report)

    monkeypatch.setattr(Caller, "send", send_counted)
    peer, _ = reports_archive
    node = start_node(destinations=(peer,))
    dataset = dcmread(sorted(make_series("1.2.9").iterdir())[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ParametricMapStorage
    for number in range(3):
        dataset.save_as(node.spool / "outbox" / "ARCHIVE" / f"1.2.9-1_{number}.dcm")
    send(node.port, sorted(make_series().iterdir()))
    wait_for(lambda: "report sent" in caplog.text and attempts.count("1.2.9-1_2") >= 5, "a report, five attempts")
    lines = [each.getMessage() for each in caplog.records if each.name == delivery.__name__]
    assert [line for line in lines if "tried again" in line] == [
        f"{peer}: 1.2.9-1_0 and 2 more: it does not accept Parametric Map Storage; tried again"
    ]
    assert [line.partition(" (")[0] for line in lines if "sent" in line] == ["1.2.3-1: report sent to ARCHIVE"]


def test_each_time_that_a_destination_is_out_of_reach_is_logged(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(delivery, "MAX_DELAY_S", 0.05)
    down, refused = UnreachableError("it is down"), DeliveryError("it is full")
    outcomes = iter([down, down, refused, refused, down, refused, down])
    attempts: list[str] = []

    def fail(_caller: Caller, _peer: Peer, report: Path) -> None:
        attempts.append(report.stem)
        raise next(outcomes, down)

    monkeypatch.setattr(Caller, "send", fail)
    peer, waiting = Peer("ARCHIVE", "127.0.0.1", 1), tmp_path / "spool" / "outbox" / "ARCHIVE"
    waiting.mkdir(parents=True)
    (waiting / "0.dcm").write_bytes(b"")
    start_node(destinations=(peer,))
    wait_for(lambda: len(attempts) > 8, "attempts")
    lines = [each.getMessage() for each in caplog.records if each.name == delivery.__name__]
    outage, refusal = f"{peer}: it is down; tried again", f"{peer}: 0: it is full; tried again"
    assert lines == [outage, refusal, outage, outage]


def test_verification_names_classes_that_a_destination_does_not_take(reports_archive: tuple[Peer, list[str]]) -> None:
    caller, (peer, _) = Caller("CT3D-EDGE", 5), reports_archive
    caller.verify(peer, [Comprehensive3DSRStorage])
    with pytest.raises(DeliveryError, match="does not accept Parametric Map Storage"):
        caller.verify(peer, [Comprehensive3DSRStorage, ParametricMapStorage])


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Peer("GONE", "127.0.0.1", 1), "cannot be reached: Connection refused"),
        (Peer("GONE", "no-such-host.invalid", 104), "there is no host no-such-host.invalid"),
    ],
)
def test_verification_says_why_a_peer_does_not_answer(peer: Peer, reason: str) -> None:
    with pytest.raises(DeliveryError, match=reason):
        Caller("CT3D-EDGE", 2).verify(peer)


def test_verification_says_why_a_peer_rejects(start_node: StartNode) -> None:
    node = start_node()
    with pytest.raises(DeliveryError, match="rejects the association: Calling AE title not recognised"):
        Caller("STRANGER", 2).verify(Peer("CT3D-EDGE", "127.0.0.1", node.port))


def test_series_and_report_are_removed_after_the_retention(
    start_node: StartNode, make_series: MakeSeries, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.node.node.HOUSEKEEPING_S", 0.1)
    node = start_node(destinations=(archive.peer,), retention_hours=0)
    send(node.port, sorted(make_series().iterdir()))
    node.records(1)
    kept = [node.spool / "series", node.spool / "reports"]
    wait_for(lambda: not [path for folder in kept for path in folder.iterdir()], "neither series nor report left")
    archive.start()  # what is still to be sent stays
    archive.wait_for_reports(1)


def test_series_of_two_passes_has_two_records_and_two_reports(
    start_node: StartNode, make_series: MakeSeries, archive: Archive, tmp_path: Path
) -> None:
    archive.start()
    node = start_node(destinations=(archive.peer,))
    folder = tmp_path / "both"
    folder.mkdir()
    for number, source in enumerate((make_series("1.2.3"), make_series("1.2.9"))):
        for path in source.iterdir():
            dataset = dcmread(path)
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2.3", "1.2.3.0"
            dataset.AcquisitionNumber = number + 1
            uid = f"{dataset.SOPInstanceUID}.{number}"
            dataset.SOPInstanceUID, dataset.file_meta.MediaStorageSOPInstanceUID = uid, UID(uid)
            dataset.save_as(folder / f"{number}_{path.name}")
    assert send(node.port, sorted(folder.iterdir())).returncode == 0
    records = node.records(2)
    assert len({record.scan for record in records}) == 2
    assert all(Path(record.scan).parent == node.spool / "series" / "1.2.3-1" for record in records)
    reports = archive.wait_for_reports(2)
    assert len({dcmread(path).SOPInstanceUID for path in reports}) == 2
    wait_for((node.spool / "series" / "1.2.3-1" / ".done").exists, "the mark of a series that is done")
    shutil.rmtree(folder)
