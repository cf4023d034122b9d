"""One DICOM file: what its header says of the images in it, parsed and checked. The pixels stay where they are."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ct3d_edge.errors import UnreadableScan
from ct3d_edge.scan.dicom.frames import FRAME_TAGS, Frame, read_frames
from ct3d_edge.scan.dicom.magic import UNNAMED, is_dicom
from ct3d_edge.scan.dicom.pixel_storage import (
    PIXEL_DATA,
    Inflatable,
    PixelData,
    Storage,
    capacity,
    locate,
    read_padding,
    read_storage,
)
from ct3d_edge.scan.dicom.tags import quietly, text, whole

PASS_TAGS = (
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "EchoNumbers",
    "TemporalPositionIdentifier",
)
"""What tells two passes over the same part of the body apart."""

SERIES_TAGS = ("FrameOfReferenceUID", "Modality", "SeriesNumber", "StudyInstanceUID")
"""What all files of one series share (PS3.3, A.1.2.3)."""

TAGS = [
    *FRAME_TAGS,
    *PASS_TAGS,
    *SERIES_TAGS,
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "ImagesInAcquisition",
    "PatientID",
    "PatientName",
    "PhotometricInterpretation",
    "PixelPaddingValue",
    "PixelRepresentation",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesInstanceUID",
]
"""All that is ever parsed; private elements and what else a header holds are passed over."""

CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image (PS3.4, annex B.5)."""

KEPT_IN_MEMORY = 8192
"""Headers of files remembered: a series is found first and opened later, and its files are parsed once."""

UIDS_IN_MEMORY = 1 << 18
"""Files of which only the series is remembered, so that opening one of a thousand series does not parse them all."""


@dataclass(frozen=True)
class Image:
    """A DICOM file that holds one image or several.

    Parameters
    ----------
    path
        The file.
    study, series, instance, sop_class
        UIDs.
    modality
        ``"CT"``, or what else; empty if the file does not say.
    patient
        Hash of the patient's ID and name, to tell two apart; nothing that could be shown.
    belongs
        Hashes of `SERIES_TAGS`, in their order; empty where the file does not give one.
    passes
        Hashes of `PASS_TAGS`, in their order; empty where the file does not give one.
    rows, columns, samples, photometric, storage
        What a frame is made of.
    syntax
        Transfer syntax.
    pixels
        Where they lie.
    padding
        Stored value outside the field of view, or None.
    declared
        Images of the acquisition by the file's own account, or None.
    bare
        Whether the file has no preamble and no meta information, so that its transfer syntax had to be recognised.
    frames
        In the order of the file.
    """

    path: Path
    study: str
    series: str
    instance: str
    sop_class: str
    modality: str
    patient: str
    belongs: tuple[str, ...]
    passes: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    photometric: str
    storage: Storage
    syntax: UID
    pixels: PixelData
    padding: int | None
    declared: int | None
    bare: bool
    frames: tuple[Frame, ...]

    @property
    def is_ct(self) -> bool:
        """Whether the file says, or does not deny, that it is CT."""
        return self.modality in ("", "CT")


def read_image(path: Path) -> Image:
    """Parse a file's header.

    Raises
    ------
    UnreadableScan
        ``not_found``, ``unreadable``, ``empty``; ``not_dicom``; ``truncated`` if it ends before its pixels begin;
        ``too_large`` if it is deflated and would take the memory;
        ``no_image`` if it is DICOM of another kind; ``bad_header`` if it says something impossible.
    """
    try:
        found = path.stat()
        return _read(path, found.st_size, found.st_mtime_ns)
    except FileNotFoundError as error:
        raise UnreadableScan("not_found", f"{path.name} does not exist.") from error
    except OSError as error:
        raise UnreadableScan("unreadable", f"{path.name} cannot be read: {error.strerror or error}.") from error


def series_of_file(path: Path) -> str | None:
    """UID of the series that a file belongs to, `UNNAMED` if it gives none; None if it cannot be read."""
    try:
        found = path.stat()
        return _series(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return None


@lru_cache(UIDS_IN_MEMORY)
def _series(path: Path, size: int, changed: int) -> str | None:
    try:
        return _read(path, size, changed).series or UNNAMED
    except UnreadableScan:
        return None


@lru_cache(KEPT_IN_MEMORY)
def _read(path: Path, size: int, _changed: int) -> Image:
    if size == 0:
        raise UnreadableScan("empty", f"{path.name} is empty (0 bytes). Copy or export it again.")
    if not is_dicom(path):
        raise UnreadableScan("not_dicom", f"{path.name} is not a DICOM file, whatever its name says.")
    with Inflatable(path) as stream, quietly():
        dataset = _parse(stream, path)
        return _image(dataset, path, _pixels(stream, dataset, path))


def _parse(stream: BinaryIO, path: Path) -> Dataset:
    try:
        return dcmread(stream, stop_before_pixels=True, force=True, specific_tags=TAGS)
    except (OSError, UnreadableScan):
        raise
    except EOFError as error:
        raise _truncated(path) from error
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UnreadableScan("not_dicom", f"{path.name} cannot be parsed as DICOM ({type(error).__name__}).") from error


def _pixels(stream: BinaryIO, dataset: Dataset, path: Path) -> PixelData:
    """Where the pixels lie, in a file that holds some."""
    implicit, little = dataset.original_encoding
    deflated = _syntax(dataset) == DeflatedExplicitVRLittleEndian
    pixels = PixelData(PIXEL_DATA) if deflated else locate(stream, implicit=bool(implicit), little=bool(little))
    classes = {text(dataset, "SOPClassUID"), text(dataset.file_meta, "MediaStorageSOPClassUID")} - {""}
    if not classes and "Rows" not in dataset:  # not even what it is: the beginning of a file
        raise _truncated(path)
    if "Rows" not in dataset and classes.isdisjoint(CT_CLASSES):
        kind = text(dataset, "Modality") or "of an unknown kind"
        raise UnreadableScan("no_image", f"{path.name} is DICOM without an image ({kind}).")
    if pixels.tag is None:
        raise _truncated(path)
    return pixels


def _truncated(path: Path) -> UnreadableScan:
    return UnreadableScan("truncated", f"{path.name} ends too early. Copy or export it again.")


def _syntax(dataset: Dataset) -> UID:
    """Transfer syntax; of a file that does not name one, what pydicom recognised."""
    if named := text(dataset.file_meta, "TransferSyntaxUID"):
        return UID(named)
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _image(dataset: Dataset, path: Path, pixels: PixelData) -> Image:
    name = path.name
    rows, columns = whole(dataset, "Rows", name), whole(dataset, "Columns", name)
    if not rows or not columns or min(rows, columns) < 1:
        raise UnreadableScan("bad_header", f"{name} does not say how many rows and columns it has.")
    samples, storage = whole(dataset, "SamplesPerPixel", name) or 1, read_storage(dataset, name)
    most = capacity(pixels, rows * columns * samples * storage.allocated // 8)
    return Image(
        path=path,
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        instance=text(dataset, "SOPInstanceUID"),
        sop_class=text(dataset, "SOPClassUID"),
        modality=text(dataset, "Modality").upper(),
        patient=_patient(dataset),
        belongs=tuple(_hashed(text(dataset, keyword)) for keyword in SERIES_TAGS),
        passes=tuple(_hashed(text(dataset, keyword)) for keyword in PASS_TAGS),
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        storage=storage,
        syntax=_syntax(dataset),
        pixels=pixels,
        padding=read_padding(dataset, name),
        declared=whole(dataset, "ImagesInAcquisition", name),
        bare=not text(dataset.file_meta, "TransferSyntaxUID"),
        frames=read_frames(dataset, name, most),
    )


def _patient(dataset: Dataset) -> str:
    said = "\n".join(text(dataset, keyword) for keyword in ("PatientID", "PatientName"))
    return _hashed(said)


def _hashed(said: str) -> str:
    """What can be compared and not shown; empty stays empty."""
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest() if said else ""
