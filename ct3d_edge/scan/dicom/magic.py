"""Is this file DICOM? Told by its first bytes, without a library."""

from pathlib import Path

from ct3d_edge.scan.path_kind import is_file

PREAMBLE = 128
PREFIX = b"DICM"

ENDINGS = (".dcm", ".dicom", ".ima")
"""Names that promise DICOM; a file of such a name that is none was damaged or half copied."""

BARE_GROUPS = (b"\x02\x00", b"\x08\x00")
"""With which group of elements a file without a preamble begins: file meta information, or identification."""

UNNAMED = "unnamed"
"""Stands for the UID of a series whose files give none."""

SHORT = 256
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
    return first[PREAMBLE:] == PREFIX or _begins_bare(first)


def promises_dicom(path: Path) -> bool:
    """Whether a file's name says that it is DICOM."""
    return path.suffix.lower() in ENDINGS


def names_series(name: str) -> bool:
    """Whether a name is that of a series in its folder: its UID, or `UNNAMED`."""
    return name == UNNAMED or (name[:1].isdigit() and not name.strip("0123456789."))


def _begins_bare(first: bytes) -> bool:
    """A little-endian element of an early group, its length explicit (two letters say the type) or implicit."""
    group, element, kind = first[:2], int.from_bytes(first[2:4], "little"), first[4:6]
    if group not in BARE_GROUPS or len(first) < 8 or element > 0x20:
        return False
    if kind.isalpha() and kind.isupper():
        return int.from_bytes(first[6:8], "little") <= SHORT
    length = int.from_bytes(first[4:8], "little")
    return 0 < length <= SHORT and length % 2 == 0
