"""Orthanc, an archive of other authors, takes what is written here and finds it beside its series."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import series_datasets, write_datasets
from dicom_tools import run_tool
from numpy.typing import NDArray
from records import ANSWERED

from ct3d_edge.gradcam.resample_to_scan import ScanMap
from ct3d_edge.report.dicom.document import save_structured_report
from ct3d_edge.report.dicom.mapped_series import open_mapped_series
from ct3d_edge.report.dicom.parametric_map import save_parametric_map
from ct3d_edge.report.dicom.secondary_capture import save_pictures
from ct3d_edge.scan.fingerprint import content_sha256
from ct3d_edge.scan.volume import Scan

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Orthanc is not installed (apt-get install orthanc)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """A running archive."""

    def __init__(self, http: int, dicom: int) -> None:
        self.http, self.dicom = http, dicom

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            return json.load(answer)

    def find(self, level: str, **query: str) -> list[Any]:
        body = json.dumps({"Level": level, "Query": query, "Expand": True}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/tools/find", body, timeout=20) as answer:
            found: list[Any] = json.load(answer)
            return found


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty archive on ports of its own."""
    server = Orthanc(free_port(), free_port())
    settings = {
        "Name": "test", "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": server.http, "DicomPort": server.dicom, "RemoteAccessAllowed": False, "Plugins": [],
        "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [str(PROGRAM), str(tmp_path / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                server.get("/system")
                break
            except OSError:
                assert process.poll() is None, "Orthanc ended"
                assert time.monotonic() < deadline, "Orthanc does not answer"
                time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait(20)


def falling(scan: Scan) -> ScanMap:
    """A map with its peak in the first voxel."""
    weights = [np.linspace(1, 0, size, dtype=np.float32)[:, None] for size in scan.shape]
    return ScanMap(np.ones((1, 1, 1), np.float32), (weights[0], weights[1], weights[2]), scan.affine)


def test_report_and_maps_are_filed_in_the_study_and_once(
    orthanc: Orthanc, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    datasets = series_datasets(hu)
    for dataset in datasets:
        dataset.FrameOfReferenceUID = "1.2.3.9"
    scan, out = write_datasets(tmp_path / "scan", datasets), tmp_path / "out"
    out.mkdir()
    record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan))
    for _ in range(2):  # the second time, the same objects are written and sent again
        save_structured_report(record, out / "chest_sr.dcm", "chest")
        mapped = open_mapped_series(record, falling, "abnormal", "chest")
        pictures = save_pictures(mapped, out / "chest")
        save_parametric_map(mapped, out / "chest_pm.dcm")
        for folder in (scan, out):
            sent = run_tool("storescu", "-R", "+sd", "127.0.0.1", orthanc.dicom, folder)
            assert sent.returncode == 0, sent.stderr
    (study,) = orthanc.find("Study", StudyInstanceUID="1.2.3.0")
    series = {
        found["MainDicomTags"]["Modality"] + str(found["MainDicomTags"].get("SeriesNumber", "")): found["Instances"]
        for found in map(orthanc.get, (f"/series/{each}" for each in study["Series"]))
    }
    counts = {name: len(instances) for name, instances in series.items()}
    assert counts == {"CT": len(datasets), "SR9901": 1, "OT9902": len(pictures), "OT9903": 1}
    report = orthanc.get(f"/instances/{series['SR9901'][0]}/simplified-tags")
    assert (report["SOPClassUID"], report["VerificationFlag"]) == ("1.2.840.10008.5.1.4.1.1.88.34", "UNVERIFIED")
    picture = orthanc.get(f"/instances/{series['OT9902'][0]}/simplified-tags")
    assert picture["SeriesDescription"].startswith("NOT FOR CLINICAL USE")
    with urllib.request.urlopen(
        f"http://127.0.0.1:{orthanc.http}/instances/{series['OT9902'][0]}/preview", timeout=20
    ) as preview:
        assert preview.read(4) == b"\x89PNG", "Orthanc draws it"
