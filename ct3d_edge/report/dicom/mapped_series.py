"""A predicted series and its Grad-CAM map: what pictures and maps for the archive are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.gradcam.resample_to_scan import ScanMap
from ct3d_edge.report.dicom.identity import make_uid
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.dicom.series import DicomSeries
from ct3d_edge.scan.dicom.tags import read_text
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.volume import Scan


@dataclass(frozen=True, eq=False)
class MappedSeries:
    """A series with a prediction and its map.

    Parameters
    ----------
    record
        Its record.
    series
        The series, opened again.
    overlay
        The map in its space.
    label
        The class that the map explains.
    model
        Name of the model.
    """

    record: ResultRecord
    series: DicomSeries
    overlay: ScanMap
    label: str
    model: str

    def uid(self, what: str) -> UID:
        """The UID of an object made of it."""
        return make_uid(self.record, self.model, what)

    def encode(self, make: Callable[[], Dataset]) -> bytes:
        """Make an object; the bytes of its file.

        Raises
        ------
        UnreadableScanError
            ``bad_header`` if the series holds what cannot be written again.
        """
        stream = BytesIO()
        try:
            make().save_as(stream, enforce_file_format=True)
        except Exception as error:  # highdicom and pydicom raise whatever the header leads them to
            name, kind = Path(self.record.scan).name, type(error).__name__
            raise UnreadableScanError(
                "bad_header", f"{name} holds what no object made of it can repeat ({kind})."
            ) from error
        return stream.getvalue()


def open_mapped_series(
    record: ResultRecord, resample: Callable[[Scan], ScanMap], label: str, model: str
) -> MappedSeries:
    """Open a predicted series again; ``resample`` gives its map in the space of a scan.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        If it cannot be opened any more.
    """
    series = open_scan(Path(record.scan), raise_refused=False)
    if not isinstance(series, DicomSeries):
        raise UnreadableScanError("not_dicom", f"{Path(record.scan).name} is no DICOM series.")
    return MappedSeries(record, series, resample(series), label, model)


def set_body_part(made: Dataset, header: Dataset) -> None:
    """Copy which part of the body a series shows; without one, its side is unknown, too (type 2C, PS3.3, C.7.3.1)."""
    if part := read_text(header, "BodyPartExamined"):
        made.BodyPartExamined = part
    else:
        made.Laterality = ""
