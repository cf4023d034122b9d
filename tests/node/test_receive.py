"""What a node answers to peers, and what it makes of what they send."""

import hashlib
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from builders import MakeModel
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import (
    UID,
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
from pynetdicom.dsutils import encode

from bench.node_peers import Archive, wait_for
from ct3d_edge.node.config import Completion

from .conftest import (
    LIMITS,
    MakeSeries,
    StartNode,
    read_records,
    require_program,
    send,
)
from .sender import associate, read_all, statuses, store_encoded


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
