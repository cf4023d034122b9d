"""A real series against NIfTI files that independent programs made of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import open_scan


@pytest.fixture(scope="module")
def series(real_scans: Path) -> Path:
    folder = real_scans.parent / "dicom" / "covid_ricord1a-001012"
    if not folder.is_dir():
        pytest.skip(f"needs a real DICOM series in {folder}")
    return folder


def dcm2niix() -> str:
    """The program: on the path, or in this environment, whose folder need not be on it."""
    converter = shutil.which("dcm2niix") or shutil.which("dcm2niix", path=str(Path(sys.executable).parent))
    if converter is None:
        pytest.skip("dcm2niix is not installed")
    return converter


@pytest.mark.slow
def test_the_network_input_is_that_of_dcm2niix(series: Path, tmp_path: Path) -> None:
    subprocess.run([dcm2niix(), "-o", tmp_path, "-f", "scan", series], check=True, capture_output=True)
    converted = preprocess(open_scan(tmp_path / "scan.nii"), Contract())
    found = preprocess(open_scan(series), Contract())
    np.testing.assert_allclose(found.volume, converted.volume, rtol=0, atol=1e-6)
    assert found.flags == converted.flags == ()


def test_a_real_series_is_found_whole(series: Path) -> None:
    assert find_scans([series.parent]) == [series, series.parent / "single"]
    scan = open_scan(series)
    assert (scan.shape, scan.axis_code, scan.spacing) == ((512, 512, 62), "LPS", (0.703125, 0.703125, 5.0))
    assert scan.flags == ()
