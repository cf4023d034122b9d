"""A series that arrived: the name of its folder, and its instances as files.

An instance is ``SOP-UID.dcm``, or ``SOP-UID_HASH.dcm`` if another content has its UID.
"""

import filecmp
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.scan.dicom.instance_identity import is_uid

DICOM_SUFFIX = ".dcm"


@dataclass(frozen=True)
class Arrival:
    """A complete series: the ``number``-th time that instances of this series UID arrived."""

    series: str
    number: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.series}-{self.number}"

    @classmethod
    def parse(cls, name: str) -> "Arrival | None":
        """The arrival of a folder's name; None if no node made it."""
        series, _, number = name.rpartition("-")
        return cls(series, int(number)) if is_uid(series) and number.isdecimal() else None


def instance_of(file: Path) -> str:
    """SOPInstanceUID of a file of a series."""
    return file.stem.partition("_")[0]


def choose_name(folder: Path, instance: str, written: Path) -> str:
    """Name in ``folder`` for the file of an instance: that of its UID, unless another content has it."""
    name = instance + DICOM_SUFFIX
    if not (folder / name).exists() or has_same_content(folder / name, written):
        return name
    with written.open("rb") as stream:
        return f"{instance}_{hashlib.file_digest(stream, 'sha256').hexdigest()[:16]}{DICOM_SUFFIX}"


def holds_copy(folder: Path, instance: str, written: Path) -> bool:
    """Whether a folder has a file of an instance with the content of ``written``."""
    names = (folder / (instance + DICOM_SUFFIX), *folder.glob(f"{instance}_*{DICOM_SUFFIX}"))
    return any(has_same_content(name, written) for name in names)


def has_same_content(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same bytes."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except FileNotFoundError:
        return False


def link_missing(source: Path, target: Path, temporary: Path) -> None:
    """Give ``target`` the instances of ``source`` that it does not have.

    Parameters
    ----------
    temporary
        Folder for copies in progress, on a file system without hard links.
    """
    present = set(map(instance_of, target.iterdir()))
    for file in source.glob("*" + DICOM_SUFFIX):
        if instance_of(file) in present:
            continue
        try:
            os.link(file, target / file.name)
        except OSError:
            copy = temporary / file.name
            shutil.copy2(file, copy)
            copy.replace(target / file.name)
