"""The folder of Grad-CAM maps as NIfTI files, with a picture of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.terminal import log
from ct3d_edge.system.atomic_write import make_folder, require_writable, write_failure_message

if TYPE_CHECKING:
    from ct3d_edge.cli.extra_outputs import FileNames
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
    names
        Gives the files of a scan their names.

    Raises
    ------
    UsageError
        If the folder cannot be made or written to.
    """

    option = "--gradcam-dir"

    def __init__(self, folder: Path, names: "FileNames") -> None:
        make_folder(folder)
        require_writable(folder / PICTURE_SUFFIX)
        self.path, self.written = folder, 0
        self._names = names

    def needs_network_input(self, record: "ResultRecord") -> bool:
        """Whether the map of this very scan by this very model is not there."""
        from ct3d_edge.gradcam.resample_to_scan import has_matching_note

        picture = self._file_of(record, PICTURE_SUFFIX)
        return not (picture.exists() and has_matching_note(self._file_of(record, MAP_SUFFIX), _map_provenance(record)))

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:
        """Write map and picture of a scan that has a prediction.

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
        self._remove(self._file_of(record, MAP_SUFFIX))
        save_png(pixels, self._file_of(record, PICTURE_SUFFIX))
        save_map(explanation.to_scan_grid(scan), self._file_of(record, MAP_SUFFIX), _map_provenance(record))
        self.written += 1

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Log if no scan has a prediction to explain; each map has its own file."""
        if not any(record.has_prediction for record in records):
            log(f"{self.option}: no scan has a prediction, so there is no map")

    @staticmethod
    def _remove(old: Path) -> None:
        """Take away the map of an earlier run; what is there and no file is left for the writing to name."""
        try:
            if old.is_file():
                old.resolve().unlink()  # a link stays, as it does in writing
        except OSError as error:
            raise write_failure_message(old, error) from error

    def _file_of(self, record: "ResultRecord", ending: str) -> Path:
        return self.path / (self._names(Path(record.scan)) + ending)


def _map_provenance(record: "ResultRecord") -> str:
    return f"Grad-CAM; model {record.model_sha256[:16]}; scan {(record.scan_sha256 or '')[:16]}"
