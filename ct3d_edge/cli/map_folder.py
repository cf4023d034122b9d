"""The folder that ``infer --explain`` writes: of each scan a map in its own space, and a picture."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.atomic import cannot_write, make_folder, require_writable
from ct3d_edge.cli.scan_names import unique_names
from ct3d_edge.cli.terminal import say

if TYPE_CHECKING:
    from ct3d_edge.pipeline import Analysis, Explanation
    from ct3d_edge.results import Record

MAP_ENDING, PICTURE_ENDING = "_gradcam.nii.gz", "_gradcam.png"


class MapFolder:
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

    option = "--explain"

    def __init__(self, folder: Path, scans: Iterable[Path]) -> None:
        make_folder(folder)
        require_writable(folder / PICTURE_ENDING)
        self.path, self.written = folder, 0
        self._names = unique_names(scans)

    def needs(self, record: "Record") -> bool:
        """Whether the map of this very scan by this very model is not there."""
        from ct3d_edge.explain import has_note

        place = self._place(record, PICTURE_ENDING)
        return not (place.exists() and has_note(self._place(record, MAP_ENDING), _note(record)))

    def add(self, analysis: "Analysis", explanation: "Explanation | None") -> None:
        """Write map and picture of a scan that has an answer.

        Raises
        ------
        ScanError
            If the scan cannot be opened any more.
        UsageError
            If a file cannot be written.
        """
        from ct3d_edge.explain import save_map
        from ct3d_edge.report import overlay_picture, save_picture
        from ct3d_edge.scan import open_scan

        record, prepared = analysis.record, analysis.prepared
        if explanation is None or prepared is None:
            return
        scan = open_scan(Path(record.scan), judge=False)
        window = explanation.contract.hu_window
        pixels = overlay_picture(prepared.volume, explanation.on_network_grid(), window)
        # The map bears the note that `needs` goes by: it comes last, and never stands beside another's picture.
        self._remove(self._place(record, MAP_ENDING))
        save_picture(pixels, self._place(record, PICTURE_ENDING))
        save_map(explanation.on_scan_grid(scan), self._place(record, MAP_ENDING), _note(record))
        self.written += 1

    def save(self, records: "Sequence[Record]") -> None:
        """Say so if no scan has an answer that could be explained; each map has its own file."""
        if not any(record.answered for record in records):
            say(f"{self.option}: no scan has an answer, so there is no map")

    @staticmethod
    def _remove(old: Path) -> None:
        """Take away the map of an earlier run; what is there and no file is left for the writing to name."""
        try:
            if old.is_file():
                old.resolve().unlink()  # a link stays, as it does in writing
        except OSError as error:
            raise cannot_write(old, error) from error

    def _place(self, record: "Record", ending: str) -> Path:
        return self.path / (self._names[Path(record.scan)] + ending)


def _note(record: "Record") -> str:
    return f"Grad-CAM; model {record.model_sha256[:16]}; scan {(record.scan_sha256 or '')[:16]}"
