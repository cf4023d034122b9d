"""The source series of a report: its patient, its study and its instances."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.pixel_storage import open_dicom
from ct3d_edge.scan.dicom.series_finder import read_series_instances
from ct3d_edge.scan.dicom.tags import read_text
from ct3d_edge.scan.gzip_reader import no_cancellation

REQUIRED_KEYWORDS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
"""Elements of patient and study that every report has, empty where the series has none (type 2 in PS3.3)."""

PATIENT_SEX_VALUES = ("M", "F", "O", "")
VALUE_PARSERS = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
"""Elements whose value must be a date or a time."""


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """What a report copies of its series, and what it refers to.

    Parameters
    ----------
    header
        Patient and study, of one file of the series.
    instances
        UIDs and class of every file, the one of ``header`` first.
    """

    header: Dataset
    instances: tuple[Dataset, ...]

    @property
    def evidence(self) -> list[Dataset]:
        """The instances as highdicom takes them: the first with patient and study."""
        return [self.header, *self.instances[1:]]


def read_source_series(scan: Path, check_cancelled: Callable[[], None] = no_cancellation) -> SourceSeries:
    """Read what a report needs to know of a DICOM series.

    ``check_cancelled`` is called after each file; what it raises ends the reading.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` if the files do not name their study; else as reading them.
    RefusedScanError
        ``mixed_patients`` if they belong to several patients or studies: a report belongs to one.
    """
    images = read_series_instances(scan, check_cancelled)
    _require_one_study(images, scan.name)
    return SourceSeries(read_header(images[0]), tuple(map(_make_reference, images)))


def _require_one_study(images: Sequence[DicomInstance], name: str) -> None:
    if not all(image.study and image.series and image.instance and image.sop_class for image in images):
        raise UnreadableScanError(
            "bad_header", f"{name} does not give the UIDs of its study, series and files; no report can refer to them."
        )
    if len({(image.patient, image.study) for image in images}) > 1:
        raise RefusedScanError(
            "mixed_patients", f"{name} holds files of several patients or studies; a report belongs to one."
        )


def _make_reference(image: DicomInstance) -> Dataset:
    reference = Dataset()
    reference.StudyInstanceUID, reference.SeriesInstanceUID = image.study, image.series
    reference.SOPInstanceUID, reference.SOPClassUID = image.instance, image.sop_class
    return reference


def read_header(image: DicomInstance) -> Dataset:
    """A file's header without what is damaged; empty where something required is missing or no DICOM value."""
    header = _make_reference(image)
    with open_dicom(image.path) as stream:
        given = dcmread(stream, stop_before_pixels=True, force=True)
    for tag in tuple(given.keys()):
        try:
            element = given[tag]
        except Exception:  # noqa: S112  # pydicom parses on access; a damaged element is one the report lacks
            continue
        if tag not in header:
            header.add(element)
    for keyword in REQUIRED_KEYWORDS:
        if not _is_valid(header, keyword):
            setattr(header, keyword, "")
    return header


def _is_valid(header: Dataset, keyword: str) -> bool:
    value = read_text(header, keyword)
    if keyword == "PatientSex":
        return keyword in header and value in PATIENT_SEX_VALUES
    try:
        return bool(value) and VALUE_PARSERS.get(keyword, str)(value) is not None
    except ValueError:
        return False
