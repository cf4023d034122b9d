"""The folders that ``infer`` writes: Grad-CAM maps and DICOM structured reports."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.extra_outputs import unique_names
from ct3d_edge.cli.terminal import log
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import require_extra
from ct3d_edge.system.atomic_write import make_folder, require_writable, write_failure_message

if TYPE_CHECKING:
    from ct3d_edge.inference.gradcam_maps import GradcamMap
    from ct3d_edge.inference.predict import ScanResult
    from ct3d_edge.results.record import ResultRecord

MAP_SUFFIX, PICTURE_SUFFIX = "_gradcam.nii.gz", "_gradcam.png"


class GradcamOutput:
    """Where the maps go.

    Parameters
    ----------
    folder
        Made if it is not there.
    scans
        All scans of the run, so that two of one name get files of different names.

    Raises
    ------
    UsageError
        If the folder cannot be made or written to.
    """

    option = "--gradcam-dir"

    def __init__(self, folder: Path, scans: Iterable[Path]) -> None:
        make_folder(folder)
        require_writable(folder / PICTURE_SUFFIX)
        self.path, self.written = folder, 0
        self._names = unique_names(scans)

    def needs_network_input(self, record: "ResultRecord") -> bool:
        """Whether the map of this very scan by this very model is not there."""
        from ct3d_edge.gradcam.resample_to_scan import has_matching_note

        place = self._place(record, PICTURE_SUFFIX)
        return not (place.exists() and has_matching_note(self._place(record, MAP_SUFFIX), _map_provenance(record)))

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:
        """Write map and picture of a scan that has an answer.

        Raises
        ------
        ScanError
            If the scan cannot be opened any more.
        UsageError
            If a file cannot be written.
        """
        from ct3d_edge.gradcam.resample_to_scan import save_map
        from ct3d_edge.report.montage import save_png
        from ct3d_edge.report.slice_images import draw_overlay
        from ct3d_edge.scan.loader import open_scan

        record, prepared = analysis.record, analysis.model_input
        if explanation is None or prepared is None:
            return
        scan = open_scan(Path(record.scan), raise_refused=False)
        window = explanation.contract.hu_window
        pixels = draw_overlay(prepared.volume, explanation.to_network_grid(), window)
        # The map bears the note that `needs` goes by: it comes last, and never stands beside another's picture.
        self._remove(self._place(record, MAP_SUFFIX))
        save_png(pixels, self._place(record, PICTURE_SUFFIX))
        save_map(explanation.to_scan_grid(scan), self._place(record, MAP_SUFFIX), _map_provenance(record))
        self.written += 1

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Log if no scan has a prediction to explain; each map has its own file."""
        if not any(record.has_prediction for record in records):
            log(f"{self.option}: no scan has an answer, so there is no map")

    @staticmethod
    def _remove(old: Path) -> None:
        """Take away the map of an earlier run; what is there and no file is left for the writing to name."""
        try:
            if old.is_file():
                old.resolve().unlink()  # a link stays, as it does in writing
        except OSError as error:
            raise write_failure_message(old, error) from error

    def _place(self, record: "ResultRecord", ending: str) -> Path:
        return self.path / (self._names[Path(record.scan)] + ending)


def _map_provenance(record: "ResultRecord") -> str:
    return f"Grad-CAM; model {record.model_sha256[:16]}; scan {(record.scan_sha256 or '')[:16]}"


SR_SUFFIX = "_sr.dcm"


class StructuredReportOutput:
    """Where the structured reports go.

    Parameters
    ----------
    folder
        Made if it is not there.
    scans
        All scans of the run, so that two of one name get files of different names.
    model
        Its name, as reports give it.
    include_phi
        Whether the user agreed to outputs that name the patient.
    seconds
        How long reading a series again may take; for ever if None.

    Raises
    ------
    UsageError
        If the user did not, or the folder cannot be written to.
    MissingExtraError
        If highdicom is not installed.
    """

    option = "--dicom-sr"

    def __init__(
        self, folder: Path, scans: Sequence[Path], model: str, *, include_phi: bool, seconds: float | None = None
    ) -> None:
        from ct3d_edge.scan.loader import is_series

        if not include_phi:
            raise UsageError(
                "--dicom-sr writes reports that are filed under the patient's name and ID, which no output holds "
                "without --include-phi; give both options."
            )
        require_extra("dicom", ["highdicom"])
        make_folder(folder)
        require_writable(folder / SR_SUFFIX)
        self.path, self.written = folder, 0
        self._model, self._seconds = model, seconds
        self._names = unique_names(scans)
        self._series = frozenset(filter(is_series, scans))

    def log_scans_without_report(self) -> None:
        """Log how many scans cannot have a report."""
        others = len(self._names) - len(self._series)
        if others:
            log(f"--dicom-sr: {others} of {len(self._names)} scans are no DICOM series and get no structured report")

    def needs_network_input(self, record: "ResultRecord") -> bool:  # noqa: ARG002
        """No: the record is sufficient."""
        return False

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:  # noqa: ARG002
        """Write the report of a series that has an answer, unless this very one is there.

        Raises
        ------
        ScanError
            If the series cannot be read any more, not in time, or a report could not be filed beside it.
        UsageError
            If the file cannot be written.
        """
        from ct3d_edge.inference.worker_pool import run_with_timeout
        from ct3d_edge.report.dicom.document import is_same_report, save_structured_report

        record = analysis.record
        scan = Path(record.scan)
        if scan not in self._series or not record.has_prediction:
            return
        place = self.path / (self._names[scan] + SR_SUFFIX)
        if not is_same_report(place, record, self._model):
            run_with_timeout(
                self._seconds,
                lambda _, check_cancelled: save_structured_report(record, place, self._model, check_cancelled),
                scan,
            )
            self.written += 1

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Log how many series have no report, as they have no prediction."""
        without = sum(Path(record.scan) in self._series and not record.has_prediction for record in records)
        if without:
            log(f"--dicom-sr: {without} series without an answer get no structured report")
