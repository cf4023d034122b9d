"""What a node answers to peers, and what it makes of what they send."""

import hashlib
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from builders import MakeModel
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from bench.node_hostile import associate_request
from bench.node_peers import SENDER, Archive, wait_for
from ct3d_edge.node.config import Completion, Peer

from .conftest import LIMITS, MakeSeries, RunningNode, StartNode, StartProcess, read_records, require_program, send


def associate(
    node: RunningNode, syntax: UID = ExplicitVRLittleEndian, sop_class: UID = CTImageStorage, title: str = SENDER
) -> Association:
    contexts = [build_context(sop_class, syntax), build_context(Verification)]
    return AE(ae_title=title).associate("127.0.0.1", node.port, contexts=contexts, ae_title="CT3D-EDGE")


def store_encoded(association: Association, data: bytes, instance: str) -> int:
    """C-STORE of bytes that pynetdicom would not send by itself; the status."""
    request = C_STORE()
    request.MessageID, request.Priority, request.DataSet = 1, 2, BytesIO(data)
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, UID(instance)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, 1)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert isinstance(answer, C_STORE)
    assert answer.Status is not None
    return answer.Status


def statuses(node: RunningNode, datasets: list[Dataset], syntax: UID = ExplicitVRLittleEndian) -> list[int]:
    """What a node answers to each of some data sets."""
    association = associate(node, syntax, datasets[0].SOPClassUID)
    assert association.is_established
    answers = [int(association.send_c_store(dataset).Status) for dataset in datasets]
    association.release()
    return answers


def read_all(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted(folder.iterdir())]


def test_series_gets_one_record_and_its_report_reaches_the_archive(
    start_node: StartNode, make_series: MakeSeries, archive: Archive
) -> None:
    archive.start()
    node = start_node(destinations=(archive.peer,))
    assert send(node.port, sorted(make_series().iterdir())).returncode == 0
    (record,) = node.records(1)
    assert record.has_prediction
    assert Path(record.scan) == node.spool / "series" / "1.2.3-1"
    (report,) = map(dcmread, archive.wait_for_reports(1))
    assert (report.Modality, report.StudyInstanceUID) == ("SR", "1.2.3.0")
    assert report.PatientID == made.PATIENT_ID
    wait_for(lambda: not list((node.spool / "outbox" / "ARCHIVE").iterdir()), "an empty outbox")
    wait_for((node.spool / "series" / "1.2.3-1" / ".done").exists, "the mark of a series that is done")


def test_spooled_file_holds_the_data_set_that_was_sent(start_node: StartNode, make_series: MakeSeries) -> None:
    node = start_node()
    sent = sorted(make_series().iterdir())[0]
    assert send(node.port, [sent]).returncode == 0
    node.records(1)
    (stored,) = (node.spool / "series" / "1.2.3-1").glob("*.dcm")
    assert stored.name == f"{dcmread(sent).SOPInstanceUID}.dcm"
    assert dcmread(stored) == dcmread(sent)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless],
    ids=lambda uid: uid.keyword,
)
def test_transfer_syntaxes_are_stored_as_sent_and_predicted(
    start_node: StartNode, hu: NDArray[np.int16], tmp_path: Path, syntax: UID
) -> None:
    node = start_node()
    folder = made.write_series(tmp_path / "sent", hu)
    for path in folder.iterdir():
        if syntax.is_compressed:
            made.compress(path, syntax)
        else:
            option = "+ti" if syntax.is_implicit_VR else "+tb"
            subprocess.run([require_program("dcmconv"), option, path, path], check=True)
    assert set(statuses(node, read_all(folder), syntax)) == {0}
    (record,) = node.records(1)
    assert record.has_prediction, record.failure
    stored = next(Path(record.scan).glob("*.dcm"))
    assert dcmread(stored).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(
    "sop_class", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage], ids=lambda uid: uid.keyword
)
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.keyword
)
def test_instances_of_many_frames_are_series(
    start_node: StartNode, hu: NDArray[np.int16], tmp_path: Path, sop_class: UID, syntax: UID
) -> None:
    node = start_node()
    dataset = made.enhanced_dataset(hu)
    dataset.SOPClassUID = sop_class
    made.save(dataset, tmp_path / "one.dcm", syntax)
    assert statuses(node, [dcmread(tmp_path / "one.dcm")], syntax) == [0]
    (record,) = node.records(1)
    assert record.has_prediction, record.failure


def test_unknown_titles_and_addresses_are_rejected(start_node: StartNode) -> None:
    node = start_node(peers=(Peer(SENDER, "127.0.0.1"), Peer("FAR", "192.0.2.7")))
    answers = []
    for calling, called in (("STRANGER", "CT3D-EDGE"), ("FAR", "CT3D-EDGE"), (SENDER, "OTHER"), (SENDER, "CT3D-EDGE")):
        association = AE(ae_title=calling).associate(
            "127.0.0.1", node.port, contexts=[build_context(Verification)], ae_title=called
        )
        if association.is_established:
            answers.append(int(association.send_c_echo().Status))
            association.release()
        else:
            assert association.is_rejected
            assert association.acceptor.primitive is not None
            answers.append(-int(association.acceptor.primitive.diagnostic or 0))
    assert answers == [-3, -3, -7, 0]


def test_connection_of_an_address_that_is_no_peers_is_closed(start_node: StartNode) -> None:
    association = associate(start_node(peers=(Peer(SENDER, "192.0.2.0/24"),)))
    assert not association.is_established
    assert not association.is_rejected


def test_more_associations_than_allowed_are_rejected(start_node: StartNode) -> None:
    node = start_node(limits=replace(LIMITS, max_associations=2))
    both = [associate(node) for _ in range(2)]
    assert all(each.is_established for each in both)
    assert associate(node).is_rejected
    for each in both:
        each.release()

    def accepts() -> bool:
        association = associate(node)
        established = association.is_established
        association.release()
        return established

    wait_for(accepts, "an association after the others were released")


def test_little_disk_space_is_out_of_resources(start_node: StartNode, make_series: MakeSeries) -> None:
    node = start_node(limits=replace(LIMITS, min_free_bytes=1 << 60))
    assert set(statuses(node, read_all(make_series()))) == {0xA700}
    assert list((node.spool / "incoming").iterdir()) == list((node.spool / "receiving").iterdir()) == []


def test_limit_of_instances_is_out_of_resources_and_flagged(start_node: StartNode, make_series: MakeSeries) -> None:
    datasets = read_all(make_series())
    node = start_node(limits=replace(LIMITS, max_instances=len(datasets) - 2))
    assert statuses(node, datasets) == [0] * (len(datasets) - 2) + [0xA700] * 2
    (record,) = node.records(1)
    assert "incomplete_series" in [flag.code for flag in record.flags]


def test_limit_of_bytes_is_out_of_resources(start_node: StartNode, make_series: MakeSeries) -> None:
    datasets = read_all(make_series())
    node = start_node(limits=replace(LIMITS, max_series_bytes=5000))
    answers = statuses(node, datasets)
    assert (answers[0], answers[-1]) == (0, 0xA700)


@pytest.mark.parametrize("uid", ["..", "../../x", "1.2/../x", "1.2.3\\1.2.4", "", "1..2", "/x", "1.2.x", "9" * 65])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
def test_series_uid_that_is_none_is_not_understood(
    start_node: StartNode, make_series: MakeSeries, tmp_path: Path, uid: str
) -> None:
    node, dataset = start_node(), read_all(make_series())[0]
    before = {path for path in tmp_path.rglob("*") if "spool" not in path.parts}
    dataset.SeriesInstanceUID = uid
    assert statuses(node, [dataset]) == [0xC000]
    assert {path for path in tmp_path.rglob("*") if "spool" not in path.parts} == before
    assert list(node.spool.rglob("*.dcm")) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize(
    ("in_request", "in_data_set", "status"),
    [("1.2.3.1000", "1.2.3.999", 0xA900), ("..", "..", 0xC000), ("../../x", "1.2.3.999", 0xC000)],
)
def test_instance_uids_of_request_and_data_set_are_compared(
    start_node: StartNode, make_series: MakeSeries, in_request: str, in_data_set: str, status: int
) -> None:
    node, dataset = start_node(), read_all(make_series())[0]
    dataset.SOPInstanceUID = in_data_set
    association = associate(node)
    assert store_encoded(association, encode(dataset, False, True) or b"", in_request) == status
    assert store_encoded(association, b"no data set", "1.2.3.999") == 0xC000
    association.release()
    assert list(node.spool.rglob("*.dcm")) == []


@pytest.mark.parametrize("rule", ["release", "count"])
def test_series_is_complete_without_waiting(start_node: StartNode, make_series: MakeSeries, rule: str) -> None:
    completion = Completion(stable_for=600, on_release=rule == "release", on_count=rule == "count")
    node, datasets = start_node(completion=completion), read_all(make_series())
    for dataset in datasets:
        dataset.ImagesInAcquisition = len(datasets)
    assert set(statuses(node, datasets)) == {0}
    assert len(node.records(1)) == 1


def test_late_instance_makes_the_whole_series_arrive_again(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(), read_all(make_series())
    statuses(node, datasets[:-1])
    node.records(1)
    assert statuses(node, datasets[-1:]) == [0]
    first, second = node.records(2)
    assert Path(second.scan).name == "1.2.3-2"
    assert len(list(Path(second.scan).glob("*.dcm"))) == len(datasets)
    assert first.scan_sha256 != second.scan_sha256


def test_instances_that_come_again_unchanged_change_nothing(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(), read_all(make_series())
    statuses(node, datasets)
    node.records(1)
    assert set(statuses(node, datasets)) == {0}
    statuses(node, read_all(make_series("1.2.4")))
    assert [Path(record.scan).name for record in node.records(2)] == ["1.2.3-1", "1.2.4-1"]
    assert list((node.spool / "receiving").iterdir()) == []


def test_instances_of_one_uid_and_other_content_are_both_stored(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(), read_all(make_series())
    other = read_all(make_series())[3]
    other.PixelData = bytes(value ^ 1 for value in other.PixelData)
    for _ in range(2):  # sent again, nothing changes
        assert set(statuses(node, [*datasets, other, other])) == {0}
        (record,) = node.records(1)
        assert record.failure is not None
        assert record.failure.code == "conflicting_instances"
        assert len(list(Path(record.scan).glob("*.dcm"))) == len(datasets) + 1
    assert list((node.spool / "receiving").iterdir()) == []


def test_instance_with_other_content_replaces_that_of_an_earlier_arrival(
    start_node: StartNode, make_series: MakeSeries
) -> None:
    node, datasets = start_node(), read_all(make_series())
    statuses(node, datasets)
    node.records(1)
    datasets[3].SeriesDescription = "corrected"
    assert statuses(node, datasets[3:4]) == [0]
    _, second = node.records(2)
    stored = [dcmread(path).get("SeriesDescription") for path in Path(second.scan).glob("*.dcm")]
    assert len(stored) == len(datasets)
    assert stored.count("corrected") == 1


@pytest.mark.parametrize("image_type", [["DERIVED", "SECONDARY", "AXIAL"], ["DERIVED", "PRIMARY", "MIP"]])
def test_series_that_a_folder_search_skips_is_refused(
    start_node: StartNode, make_series: MakeSeries, archive: Archive, image_type: list[str]
) -> None:
    archive.start()
    node, datasets = start_node(destinations=(archive.peer,)), read_all(make_series())
    for dataset in datasets:
        dataset.ImageType = image_type
    assert set(statuses(node, datasets)) == {0}
    (record,) = node.records(1)
    assert record.status == "refused"
    assert record.failure is not None
    assert record.failure.code == "derived"
    assert Path(record.scan) == node.spool / "series" / "1.2.3-1"
    wait_for((node.spool / "series" / "1.2.3-1" / ".done").exists, "the mark of a series that is done")
    assert list((node.spool / "outbox" / "ARCHIVE").iterdir()) == archive.reports == []


@pytest.mark.parametrize("kind", ["other UID", "no data set", "disk"])
def test_refusal_before_the_first_instance_is_flagged(
    start_node: StartNode, make_series: MakeSeries, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    node, datasets = start_node(), read_all(make_series())
    first = datasets.pop(0)
    association = associate(node)
    if kind == "disk":
        with monkeypatch.context() as patch:
            patch.setattr("ct3d_edge.node.spool.Spool.free_bytes", lambda _: -1)
            assert association.send_c_store(first).Status == 0xA700
    else:
        instance = first.SOPInstanceUID
        first.SOPInstanceUID = "1.2.3.999"
        data = (encode(first, False, True) or b"") if kind == "other UID" else b"no data set"
        assert store_encoded(association, data, instance) in (0xA900, 0xC000)
    assert {int(association.send_c_store(dataset).Status) for dataset in datasets} == {0}
    association.release()
    (record,) = node.records(1)
    assert "incomplete_series" in [flag.code for flag in record.flags]


def test_eight_associations_at_once_lose_nothing(
    start_node: StartNode, make_series: MakeSeries, archive: Archive
) -> None:
    archive.start()
    node = start_node(destinations=(archive.peer,))
    folders = [make_series(f"1.2.3.{number}") for number in range(1, 9)]
    with ThreadPoolExecutor(len(folders)) as senders:
        sent = list(senders.map(lambda folder: send(node.port, sorted(folder.iterdir())), folders))
    assert [each.returncode for each in sent] == [0] * len(folders)
    assert len({record.scan for record in node.records(len(folders))}) == len(folders)
    archive.wait_for_reports(len(folders))


def test_model_that_is_replaced_stays_until_a_restart(
    start_node: StartNode,
    make_series: MakeSeries,
    make_model: MakeModel,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ct3d_edge.node.node.HOUSEKEEPING_S", 0.1)
    node, path = start_node(), make_model()
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    wait_for(lambda: f"{path} was changed; the model that was opened stays" in caplog.text, "a line about the model")
    path.unlink()
    send(node.port, sorted(make_series().iterdir()))
    (record,) = node.records(1)
    assert record.has_prediction
    assert record.model_sha256 == hashlib.sha256(before).hexdigest()


def test_clock_that_is_set_completes_and_removes_nothing(
    start_node: StartNode, make_series: MakeSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.node.node.HOUSEKEEPING_S", 0.1)
    node = start_node(completion=Completion(stable_for=2))
    send(node.port, sorted(make_series().iterdir())[:3])
    ahead = time.time() + 1e7
    monkeypatch.setattr(time, "time", lambda: ahead)
    send(node.port, sorted(make_series("1.2.4").iterdir()))
    assert read_records(node.spool) == []
    node.records(2)
    time.sleep(0.5)
    assert len(list((node.spool / "series").iterdir())) == 2


def test_association_that_is_lost_waits_for_the_sender(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(completion=Completion(stable_for=2, on_release=True)), read_all(make_series())
    lost = associate(node)
    assert {int(lost.send_c_store(dataset).Status) for dataset in datasets[:5]} == {0}
    lost.abort()
    assert set(statuses(node, datasets)) == {0}
    (record,) = node.records(1)
    assert len(list(Path(record.scan).glob("*.dcm"))) == len(datasets)


@pytest.mark.parametrize("title", ["A\x1b[31mB", "A\nB", "A\x00B", "\x7f", "caf\xe9"], ids=ascii)
def test_title_with_control_characters_forges_no_line_of_the_log(start_process: StartProcess, title: str) -> None:
    node = start_process()
    for request in (associate_request(calling=title), associate_request(called=title)):
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
            connection.sendall(request)
            assert connection.recv(100)[:1] in (b"\x03", b"\x07", b"")  # rejected, aborted or closed
    log = node.log.read_text()
    assert not [character for character in log if not character.isprintable() and character != "\n"]
    assert not [line for line in log.splitlines() if line.startswith("B")]
