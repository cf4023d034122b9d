"""Orthanc, an archive of other authors, takes what is written here and finds it beside its series."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from dicom_files import series_datasets, write_datasets
from dicom_tools import run_tool
from numpy.typing import NDArray
from orthanc_server import run_orthanc
from records import ANSWERED

from ct3d_edge.gradcam.resample_to_scan import ScanMap
from ct3d_edge.report.dicom.document import save_structured_report
from ct3d_edge.report.dicom.mapped_series import open_mapped_series
from ct3d_edge.report.dicom.parametric_map import save_parametric_map
from ct3d_edge.report.dicom.secondary_capture import save_pictures
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.volume import Scan


def falling(scan: Scan) -> ScanMap:
    """A map with its peak in the first voxel."""
    weights = [np.linspace(1, 0, size, dtype=np.float32)[:, None] for size in scan.shape]
    return ScanMap(np.ones((1, 1, 1), np.float32), (weights[0], weights[1], weights[2]), scan.affine)


def test_report_and_maps_are_filed_in_the_study_and_once(hu: NDArray[np.int16], tmp_path: Path) -> None:
    datasets = series_datasets(hu)
    for dataset in datasets:
        dataset.FrameOfReferenceUID = "1.2.3.9"
    scan, out = write_datasets(tmp_path / "scan", datasets), tmp_path / "out"
    out.mkdir()
    record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan))
    with run_orthanc(tmp_path) as orthanc:
        for _ in range(2):  # the second time, the same objects are written and sent again
            save_structured_report(record, out / "chest_sr.dcm", "chest")
            mapped = open_mapped_series(record, falling, "abnormal", "chest")
            pictures = save_pictures(mapped, out / "chest")
            save_parametric_map(mapped, out / "chest_pm.dcm")
            for folder in (scan, out):
                sent = run_tool("storescu", "-R", "+sd", "127.0.0.1", orthanc.dicom, folder)
                assert sent.returncode == 0, sent.stderr
        series = orthanc.series("1.2.3.0")
        counts = {name: len(instances) for name, instances in series.items()}
        assert counts == {"CT": len(datasets), "SR9901": 1, "OT9902": len(pictures), "OT9903": 1}
        report = orthanc.get(f"/instances/{series['SR9901'][0]}/simplified-tags")
        assert (report["SOPClassUID"], report["VerificationFlag"]) == ("1.2.840.10008.5.1.4.1.1.88.34", "UNVERIFIED")
        picture = orthanc.get(f"/instances/{series['OT9902'][0]}/simplified-tags")
        assert picture["SeriesDescription"].startswith("NOT FOR CLINICAL USE")
        preview = orthanc.read(f"/instances/{series['OT9902'][0]}/preview")
        assert preview.startswith(b"\x89PNG"), "Orthanc draws it"
