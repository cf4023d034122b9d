"""One DICOM file: what its header says of the images in it, parsed and checked. The pixels stay where they are."""

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

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.archive import FileState, read_file_state
from ct3d_edge.scan.dicom.frames import FRAME_TAGS, ORDER_TAGS, PASS_TAGS, Frame, hash_text, read_frames
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID, is_dicom
from ct3d_edge.scan.dicom.pixel_storage import (
    PIXEL_DATA,
    DeflatedFile,
    PixelData,
    PixelStorage,
    locate_pixel_data,
    max_frames,
    read_padding_range,
    read_pixel_storage,
)
from ct3d_edge.scan.dicom.tags import read_day, read_integer, read_text, without_warnings

SERIES_TAGS = ("FrameOfReferenceUID", "Modality", "SeriesDate", "SeriesNumber", "StudyDate", "StudyInstanceUID")
"""What all files of one series share (PS3.3, A.1.2.3). Not the date of acquisition: a scan may pass midnight."""

INFERRED_SERIES_TAGS = ("SeriesDescription", "Rows", "Columns")
"""What files without SeriesInstanceUID share besides if they are one series."""

DATE_TAGS = ("AcquisitionDate", "ContentDate")
"""On what day an image was made: of one series, within two days that follow one another."""

PATIENT_TAGS = ("PatientID", "PatientName", "PatientBirthDate")

TAGS = [
    *FRAME_TAGS,
    *{*PASS_TAGS, *ORDER_TAGS},
    *SERIES_TAGS,
    *INFERRED_SERIES_TAGS,
    *DATE_TAGS,
    *PATIENT_TAGS,
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "ImagesInAcquisition",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesInstanceUID",
]
"""All that is ever parsed; private elements and what else a header holds are passed over."""

CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image (PS3.4, annex B.5)."""

INSTANCE_CACHE_SIZE = 8192
"""Headers of files remembered: a series is found first and opened later, and its files are parsed once."""

SERIES_UID_CACHE_SIZE = 1 << 18
"""Files of which only the series is remembered, so that opening one of a thousand series does not parse them all."""


@dataclass(frozen=True)
class DicomInstance:
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
        Hash of the patient's ID, name and date of birth, to tell two apart; nothing that could be shown.
    series_hashes
        Hashes of `SERIES_TAGS`, in their order; empty where the file does not give one. Of a file without a series UID
        those of `INFERRED_SERIES_TAGS` follow.
    days
        `DATE_TAGS` as numbers of days; None where the file gives none.
    rows, columns, samples, photometric, storage
        What a frame is made of.
    syntax
        Transfer syntax.
    pixels
        Where they lie.
    padding
        First and last stored value of those outside the field of view, or None.
    images_in_acquisition
        Images of the acquisition by the file's own account, or None.
    without_preamble
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
    series_hashes: tuple[str, ...]
    days: tuple[int | None, ...]
    rows: int
    columns: int
    samples: int
    photometric: str
    storage: PixelStorage
    syntax: UID
    pixels: PixelData
    padding: tuple[int, int] | None
    images_in_acquisition: int | None
    without_preamble: bool
    frames: tuple[Frame, ...]

    @property
    def is_ct(self) -> bool:
        """Whether the file says, or does not deny, that it is CT."""
        return self.modality in ("", "CT")


def read_instance(path: Path) -> DicomInstance:
    """Parse a file's header.

    Raises
    ------
    UnreadableScanError
        ``not_found``, ``unreadable``, ``empty``; ``not_dicom``; ``truncated`` if it ends before its pixels begin;
        ``too_large`` if it is deflated and would take the memory;
        ``no_pixel_data`` if it is DICOM of another kind; ``bad_header`` if it says something impossible.
    """
    try:
        return _read_cached(path, read_file_state(path))
    except FileNotFoundError as error:
        raise UnreadableScanError("not_found", f"{path.name} does not exist.") from error
    except OSError as error:
        raise UnreadableScanError("unreadable", f"{path.name} cannot be read: {error.strerror or error}.") from error


def read_series_uid(path: Path) -> str | None:
    """UID of the series that a file belongs to, `NO_SERIES_UID` if it gives none; None if it cannot be read."""
    try:
        return _series_uid_cached(path, read_file_state(path))
    except (OSError, UnreadableScanError):
        return None


@lru_cache(SERIES_UID_CACHE_SIZE)
def _series_uid_cached(path: Path, state: FileState) -> str | None:
    try:
        return _read_cached(path, state).series or NO_SERIES_UID
    except UnreadableScanError:
        return None


@lru_cache(INSTANCE_CACHE_SIZE)
def _read_cached(path: Path, state: FileState) -> DicomInstance:
    if state.size == 0:
        raise UnreadableScanError("empty", f"{path.name} is empty (0 bytes). Copy or export it again.")
    if not is_dicom(path):
        raise UnreadableScanError("not_dicom", f"{path.name} is not a DICOM file, whatever its name says.")
    with DeflatedFile(path) as stream, without_warnings():
        dataset = _parse(stream, path)
        return _make_instance(dataset, path, _locate_pixels(stream, dataset, path))


def _parse(stream: BinaryIO, path: Path) -> Dataset:
    try:
        return dcmread(stream, stop_before_pixels=True, force=True, specific_tags=TAGS)
    except (OSError, UnreadableScanError):
        raise
    except EOFError as error:
        raise _truncated_error(path) from error
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UnreadableScanError(
            "not_dicom", f"{path.name} cannot be parsed as DICOM ({type(error).__name__})."
        ) from error


def _locate_pixels(stream: BinaryIO, dataset: Dataset, path: Path) -> PixelData:
    """Where the pixels lie, in a file that holds some."""
    implicit, little = dataset.original_encoding
    deflated = _transfer_syntax(dataset) == DeflatedExplicitVRLittleEndian
    pixels = (
        PixelData(PIXEL_DATA) if deflated else locate_pixel_data(stream, implicit=bool(implicit), little=bool(little))
    )
    classes = {read_text(dataset, "SOPClassUID"), read_text(dataset.file_meta, "MediaStorageSOPClassUID")} - {""}
    if not classes and "Rows" not in dataset:  # not even what it is: the beginning of a file
        raise _truncated_error(path)
    if "Rows" not in dataset and classes.isdisjoint(CT_CLASSES):
        kind = read_text(dataset, "Modality") or "of an unknown kind"
        raise UnreadableScanError("no_pixel_data", f"{path.name} is DICOM without an image ({kind}).")
    if pixels.tag is None:
        raise _truncated_error(path)
    return pixels


def _truncated_error(path: Path) -> UnreadableScanError:
    return UnreadableScanError("truncated", f"{path.name} ends too early. Copy or export it again.")


def _transfer_syntax(dataset: Dataset) -> UID:
    """Transfer syntax; of a file that does not name one, what pydicom recognised."""
    if named := read_text(dataset.file_meta, "TransferSyntaxUID"):
        return UID(named)
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _make_instance(dataset: Dataset, path: Path, pixels: PixelData) -> DicomInstance:
    name = path.name
    rows, columns = read_integer(dataset, "Rows", name), read_integer(dataset, "Columns", name)
    if not rows or not columns or min(rows, columns) < 1:
        raise UnreadableScanError("bad_header", f"{name} does not say how many rows and columns it has.")
    samples, storage = read_integer(dataset, "SamplesPerPixel", name) or 1, read_pixel_storage(dataset, name)
    most = max_frames(pixels, rows * columns * samples * storage.allocated // 8)
    series = read_text(dataset, "SeriesInstanceUID")
    return DicomInstance(
        path=path,
        study=read_text(dataset, "StudyInstanceUID"),
        series=series,
        instance=read_text(dataset, "SOPInstanceUID"),
        sop_class=read_text(dataset, "SOPClassUID"),
        modality=read_text(dataset, "Modality").upper(),
        patient=_patient_hash(dataset),
        series_hashes=tuple(
            hash_text(read_text(dataset, keyword))
            for keyword in (SERIES_TAGS if series else (*SERIES_TAGS, *INFERRED_SERIES_TAGS))
        ),
        days=tuple(read_day(dataset, keyword) for keyword in DATE_TAGS),
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=read_text(dataset, "PhotometricInterpretation").upper(),
        storage=storage,
        syntax=_transfer_syntax(dataset),
        pixels=pixels,
        padding=read_padding_range(dataset, name),
        images_in_acquisition=read_integer(dataset, "ImagesInAcquisition", name),
        without_preamble=not read_text(dataset.file_meta, "TransferSyntaxUID"),
        frames=read_frames(dataset, name, most),
    )


def _patient_hash(dataset: Dataset) -> str:
    text = "\n".join(read_text(dataset, keyword) for keyword in PATIENT_TAGS)
    return hash_text(text)
