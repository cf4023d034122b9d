"""Is this file DICOM? Told by its first bytes, without a library."""

from pathlib import Path

from ct3d_edge.scan.path_kind import is_file

PREAMBLE = 128
PREFIX = b"DICM"

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Names that promise DICOM; a file of such a name that is none was damaged or half copied."""

GROUPS_WITHOUT_PREAMBLE = (b"\x02\x00", b"\x08\x00")
"""With which group of elements a file without a preamble begins: file meta information, or identification."""

NO_SERIES_UID = "unnamed"
"""Stands for the UID of a series whose files give none."""

MAX_SHORT_LENGTH = 256
"""The first elements of a data set are short texts and counts."""


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does: with a preamble, or at once with a data set (old archives wrote those).

    A file that cannot be opened is not, nor is a pipe or a device.
    """
    if not is_file(path):
        return False
    try:
        with path.open("rb") as stream:
            first = stream.read(PREAMBLE + len(PREFIX))
    except OSError:
        return False
    return first[PREAMBLE:] == PREFIX or _starts_with_dataset(first)


def has_dicom_suffix(path: Path) -> bool:
    """Whether a file's name says that it is DICOM."""
    return path.suffix.lower() in DICOM_SUFFIXES


def is_series_name(name: str) -> bool:
    """Whether a name is that of a series in its folder: its UID, or `NO_SERIES_UID`."""
    return name == NO_SERIES_UID or (name[:1].isdigit() and not name.strip("0123456789."))


def _starts_with_dataset(first: bytes) -> bool:
    """A little-endian element of an early group, its length explicit (two letters say the type) or implicit."""
    group, element, kind = first[:2], int.from_bytes(first[2:4], "little"), first[4:6]
    if group not in GROUPS_WITHOUT_PREAMBLE or len(first) < 8 or element > 0x20:
        return False
    if kind.isalpha() and kind.isupper():
        return int.from_bytes(first[6:8], "little") <= MAX_SHORT_LENGTH
    length = int.from_bytes(first[4:8], "little")
    return 0 < length <= MAX_SHORT_LENGTH and length % 2 == 0
