"""What tests of DICOM series share: how they change files, and what reading a series gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import DICOM
from numpy.typing import NDArray

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.loader import open_scan

if DICOM:
    import dicom_files as made
    from pydicom.dataset import Dataset

# The root conftest says so aloud.
collect_ignore_glob = [] if DICOM else ["test_*.py"]

Change = Callable[["Dataset", int], None]


def code_of(path: Path) -> str:
    """Code of the error of reading a series, whose message does not name the patient."""
    with pytest.raises(ScanError) as caught:
        list(open_scan(path).planes(range(3)))
    for secret in (made.PATIENT_NAME, made.PATIENT_ID):
        assert secret not in str(caught.value)
    return caught.value.code


def flags_of(path: Path) -> list[tuple[str, str, object]]:
    """Code, severity and value of each quality flag of a series."""
    return [(flag.code, flag.severity, flag.value) for flag in open_scan(path, raise_refused=False).flags]


def setting(**values: object) -> Change:
    """Set elements in every file; None deletes one."""

    def change(dataset: "Dataset", number: int) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def only(numbers: int | set[int], change: Change) -> Change:
    """Change only the files of these numbers, counted from the top."""
    wanted = {numbers} if isinstance(numbers, int) else numbers
    return lambda dataset, number: change(dataset, number) if number in wanted else None


@pytest.fixture
def folder(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    """A sound series of CT slices."""
    return made.write_series(tmp_path / "series", hu)
