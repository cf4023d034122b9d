"""Whether a file is DICOM, by its first bytes, and whether a path names a DICOM series."""

import re
from pathlib import Path

from isal import igzip, igzip_lib

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.archive import is_file, open_file
from ct3d_edge.system.zip_entries import DAMAGE

PREAMBLE = 128
PREFIX = b"DICM"

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Names that promise DICOM; a file of such a name that is none was damaged or half copied."""

GROUPS_WITHOUT_PREAMBLE = (b"\x02\x00", b"\x08\x00")
"""With which group of elements a file without a preamble begins: file meta information, or identification."""

GZIP_MAGIC = b"\x1f\x8b"

NIFTI_SUFFIX = ".nii.gz"
"""Compressed files of this name are not looked into: they are NIfTI, and most."""

NO_SERIES_UID = "unnamed"
"""Stands for the UID of a series whose files give none."""

NAME_SEPARATOR = "#"
"""Between the UID of a series and the name of one of its passes: ``1.2.3#AcquisitionNumber-2``."""

PASS_NAME = re.compile(r"[A-Za-z]+-[0-9a-z.-]+(,[A-Za-z]+-[0-9a-z.-]+)*")
"""Attribute and value, separated by commas where several attributes are needed."""

MAX_SHORT_LENGTH = 256
"""The first elements of a data set are short texts and counts."""


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does: with a preamble, or at once with a data set (old archives wrote those).

    It may be compressed with gzip. A file that cannot be opened is not DICOM, nor is a pipe or a device.
    """
    if not is_file(path):
        return False
    try:
        with open_file(path) as stream:
            first = stream.read(PREAMBLE + len(PREFIX))
            if first.startswith(GZIP_MAGIC) and not path.name.lower().endswith(NIFTI_SUFFIX):
                stream.seek(0)
                first = igzip.open(stream, "rb").read(PREAMBLE + len(PREFIX))
    except (*DAMAGE, UnreadableScanError, igzip_lib.error):
        return False
    return first[PREAMBLE:] == PREFIX or _starts_with_dataset(first)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the index of a DICOM medium (PS3.10, 8.6); it holds no image."""
    return path.name.upper() == "DICOMDIR" and is_dicom(path)


def has_dicom_suffix(path: Path) -> bool:
    """Whether a file's name says that it is DICOM, compressed perhaps (``1.dcm.gz``)."""
    return path.name.lower().removesuffix(".gz").endswith(DICOM_SUFFIXES)


def is_series_name(name: str) -> bool:
    """Whether a name is that of a series in its folder, or of a pass of one: see `split_series_name`."""
    uid, pass_name = split_series_name(name)
    named = uid == NO_SERIES_UID or (uid[:1].isdigit() and not uid.strip("0123456789."))
    return named and (NAME_SEPARATOR not in name or PASS_NAME.fullmatch(pass_name) is not None)


def split_series_name(name: str) -> tuple[str, str]:
    """UID (or `NO_SERIES_UID`) and name of the pass in the name of a series; the latter is empty without one."""
    uid, _, pass_name = name.partition(NAME_SEPARATOR)
    return uid, pass_name


def series_of_scan(scan: str) -> str:
    """The path of a scan without the name of a pass."""
    return scan.rpartition(NAME_SEPARATOR)[0] if NAME_SEPARATOR in scan and is_series_name(Path(scan).name) else scan


def _starts_with_dataset(first: bytes) -> bool:
    """A little-endian element of an early group, its length explicit (two letters say the type) or implicit."""
    group, element, kind = first[:2], int.from_bytes(first[2:4], "little"), first[4:6]
    if group not in GROUPS_WITHOUT_PREAMBLE or len(first) < 8 or element > 0x20:
        return False
    if kind.isalpha() and kind.isupper():
        return int.from_bytes(first[6:8], "little") <= MAX_SHORT_LENGTH
    length = int.from_bytes(first[4:8], "little")
    return 0 < length <= MAX_SHORT_LENGTH and length % 2 == 0
