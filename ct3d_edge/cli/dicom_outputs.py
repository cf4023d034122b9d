"""What is written of DICOM series for the archive: structured reports, and Grad-CAM maps as pictures and as values."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ct3d_edge.cli.terminal import log
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import require_extra
from ct3d_edge.system.atomic_write import make_folder, require_writable

if TYPE_CHECKING:
    from ct3d_edge.cli.extra_outputs import FileNames
    from ct3d_edge.inference.gradcam_maps import GradcamMap
    from ct3d_edge.inference.predict import ScanResult
    from ct3d_edge.report.dicom.mapped_series import MappedSeries
    from ct3d_edge.results.record import ResultRecord


class DicomOutput:
    """A folder of objects that an archive files beside the series that they were made of.

    Parameters
    ----------
    folder
        Made if it is not there.
    names
        Gives the files of a scan their names.
    model
        Its name, as the objects give it.
    include_phi
        Whether the user agreed to outputs that name the patient.
    seconds
        How long reading a series again may take; no limit if None.

    Raises
    ------
    UsageError
        If the user did not, or the folder cannot be written to.
    MissingExtraError
        If highdicom is not installed.
    """

    option: str
    content: ClassVar[str]
    """What a series gets, for messages."""

    def __init__(
        self, folder: Path, names: "FileNames", model: str, *, include_phi: bool, seconds: float | None = None
    ) -> None:
        if not include_phi:
            raise UsageError(
                f"{self.option} writes files that are filed under the patient's name and ID, which no output holds "
                "without --include-phi; give both options."
            )
        require_extra("dicom", ["highdicom"])
        make_folder(folder)
        require_writable(folder / "_.dcm")
        self.path, self.written = folder, 0
        self._names, self._model, self._seconds = names, model, seconds

    def log_other_scans(self, scans: Sequence[Path]) -> None:
        """Log how many scans are of other formats."""
        from ct3d_edge.scan.loader import is_series

        others = sum(not is_series(scan) for scan in scans)
        if others:
            log(f"{self.option}: {others} of {len(scans)} scans are no DICOM series and get no {self.content}")

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Log how many series have nothing, as they have no prediction."""
        from ct3d_edge.scan.loader import is_series

        without = sum(not record.has_prediction and is_series(record.scan) for record in records)
        if without:
            log(f"{self.option}: {without} series without a prediction get no {self.content}")

    def _stem(self, record: "ResultRecord") -> Path | None:
        """Path of a series' files without their endings; None if the scan gets none."""
        from ct3d_edge.scan.loader import is_series

        scan = Path(record.scan)
        return self.path / self._names(scan) if record.has_prediction and is_series(scan) else None

    def _write(self, record: "ResultRecord", write: Callable[[Callable[[], None]], object]) -> None:
        """Write within the time limit."""
        from ct3d_edge.inference.worker_pool import run_with_timeout

        run_with_timeout(self._seconds, lambda _, check_cancelled: write(check_cancelled), Path(record.scan))
        self.written += 1


class StructuredReportOutput(DicomOutput):
    """A structured report of each series with a prediction: ``NAME_sr.dcm``."""

    option = "--dicom-sr"
    content = "structured report"

    def needs_network_input(self, record: "ResultRecord") -> bool:  # noqa: ARG002
        """No: the record is sufficient."""
        return False

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:  # noqa: ARG002
        """Write the report of a series that has a prediction, unless this very one is there.

        Raises
        ------
        ScanError
            If the series cannot be read any more, not in time, or a report could not be filed beside it.
        UsageError
            If the file cannot be written.
        """
        from ct3d_edge.report.dicom.document import is_same_report, save_structured_report

        record, stem = analysis.record, self._stem(analysis.record)
        if stem is None:
            return
        path = stem.with_name(f"{stem.name}_sr.dcm")
        if not is_same_report(path, record, self._model):
            self._write(record, partial(save_structured_report, record, path, self._model))


class DicomMapOutput(DicomOutput, ABC):
    """The Grad-CAM map of each series with a prediction."""

    def needs_network_input(self, record: "ResultRecord") -> bool:
        """Whether the map of this very series by this very model is not there."""
        stem = self._stem(record)
        return stem is not None and not self._is_written(stem, record)

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:
        """Write the map of a series that has a prediction, unless this very one is there.

        Raises
        ------
        ScanError
            If the series cannot be read any more, not in time, or a map could not be filed beside it.
        UsageError
            If a file cannot be written.
        """
        record, stem = analysis.record, self._stem(analysis.record)
        if stem is None or explanation is None or self._is_written(stem, record):
            return

        def write(check_cancelled: Callable[[], None]) -> None:
            from ct3d_edge.report.dicom.mapped_series import open_mapped_series

            self._save(
                open_mapped_series(record, explanation.to_scan_grid, explanation.label, self._model),
                stem,
                check_cancelled,
            )

        self._write(record, write)

    @abstractmethod
    def _is_written(self, stem: Path, record: "ResultRecord") -> bool:
        """Whether the map of this very series by this very model is there."""

    @abstractmethod
    def _save(self, mapped: "MappedSeries", stem: Path, check_cancelled: Callable[[], None]) -> None:
        """Write a map."""


class SecondaryCaptureOutput(DicomMapOutput):
    """Pictures with the map on them: ``NAME_sc_001.dcm`` and so on."""

    option = "--dicom-sc"
    content = "secondary captures"

    def _is_written(self, stem: Path, record: "ResultRecord") -> bool:
        from ct3d_edge.report.dicom.secondary_capture import has_same_pictures

        return has_same_pictures(stem, record, self._model)

    def _save(self, mapped: "MappedSeries", stem: Path, check_cancelled: Callable[[], None]) -> None:
        from ct3d_edge.report.dicom.secondary_capture import save_pictures

        save_pictures(mapped, stem, check_cancelled)


class ParametricMapOutput(DicomMapOutput):
    """The values of the map: ``NAME_pm.dcm``."""

    option = "--dicom-pm"
    content = "parametric map"

    def _is_written(self, stem: Path, record: "ResultRecord") -> bool:
        from ct3d_edge.report.dicom.parametric_map import has_same_map

        return has_same_map(_map_path(stem), record, self._model)

    def _save(self, mapped: "MappedSeries", stem: Path, check_cancelled: Callable[[], None]) -> None:
        from ct3d_edge.report.dicom.parametric_map import save_parametric_map

        save_parametric_map(mapped, _map_path(stem), check_cancelled)


def _map_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}_pm.dcm")
