"""What a DICOM file that just arrived is, and which series it belongs to; its pixels are not looked at."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.dicom.pixel_storage import DeflatedFile
from ct3d_edge.scan.dicom.tags import read_integer, read_text, without_warnings

IDENTITY_TAGS = [
    "ImagesInAcquisition",
    "NumberOfFrames",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
]

MAX_UID_LENGTH = 64
_UID = re.compile(r"\d+(?:\.\d+)*", re.ASCII)


@dataclass(frozen=True)
class InstanceIdentity:
    """Identity of an instance.

    Parameters
    ----------
    series, instance, sop_class
        UIDs. Those of series and instance are valid, so that they can be names of files.
    frames
        Images in it.
    declared
        Images of its acquisition by its own account, or None.
    """

    series: str
    instance: str
    sop_class: str = ""
    frames: int = 1
    declared: int | None = None


def is_uid(text: str) -> bool:
    """Whether a text is numbers separated by dots, 64 characters at most (PS3.5, 9.1); leading zeros are let pass."""
    return len(text) <= MAX_UID_LENGTH and _UID.fullmatch(text) is not None


def read_identity(path: Path) -> InstanceIdentity:
    """Read the identity of a DICOM file.

    Raises
    ------
    UnreadableScanError
        ``not_dicom``; ``bad_header`` if series or instance have no valid UID; ``too_large`` if it is deflated and would
        take the memory.
    """
    try:
        with DeflatedFile(path) as stream, without_warnings():
            dataset = dcmread(stream, stop_before_pixels=True, specific_tags=IDENTITY_TAGS)
    except UnreadableScanError:
        raise
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UnreadableScanError("not_dicom", f"It cannot be parsed as DICOM ({type(error).__name__}).") from error
    series, instance = read_text(dataset, "SeriesInstanceUID"), read_text(dataset, "SOPInstanceUID")
    for name, uid in (("SeriesInstanceUID", series), ("SOPInstanceUID", instance)):
        if not is_uid(uid):
            raise UnreadableScanError("bad_header", f"{name} is no UID.")
    return InstanceIdentity(
        series=series,
        instance=instance,
        sop_class=read_text(dataset, "SOPClassUID"),
        frames=_read_count(dataset, "NumberOfFrames") or 1,
        declared=_read_count(dataset, "ImagesInAcquisition"),
    )


def _read_count(dataset: Dataset, keyword: str) -> int | None:
    """A positive number; None if there is none."""
    try:
        count = read_integer(dataset, keyword, "it")
    except UnreadableScanError:
        return None
    return count if count and count > 0 else None
