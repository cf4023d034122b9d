"""The folder that ``infer --explain`` writes: of each scan a map in its own space, and a picture."""

from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.atomic import make_folder

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
        If the folder cannot be made.
    """

    def __init__(self, folder: Path, scans: Iterable[Path]) -> None:
        make_folder(folder)
        self._folder = folder
        self._names = _unique_names(scans)

    def has(self, record: "Record") -> bool:
        """Whether the map of this very scan by this very model is there."""
        from ct3d_edge.explain import has_note

        place = self._place(record, PICTURE_ENDING)
        return place.exists() and has_note(self._place(record, MAP_ENDING), _note(record))

    def add(self, analysis: "Analysis", explanation: "Explanation") -> None:
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
        scan = open_scan(Path(record.scan), judge=False)
        save_map(explanation.on_scan_grid(scan), self._place(record, MAP_ENDING), _note(record))
        if prepared:
            window = explanation.contract.hu_window
            pixels = overlay_picture(prepared.volume, explanation.on_network_grid(), window)
            save_picture(pixels, self._place(record, PICTURE_ENDING))

    def _place(self, record: "Record", ending: str) -> Path:
        return self._folder / (self._names[Path(record.scan)] + ending)


def _note(record: "Record") -> str:
    return f"Grad-CAM; model {record.model_sha256[:16]}; scan {(record.scan_sha256 or '')[:16]}"


def _unique_names(scans: Iterable[Path]) -> dict[Path, str]:
    """File names without their endings; of several that are the same, the second and later ones numbered."""
    from ct3d_edge.scan import scan_name

    taken: set[str] = set()
    names: dict[Path, str] = {}
    for scan in scans:
        numbered = (f"{scan_name(scan)}-{number}" for number in count(2))
        names[scan] = next(name for name in chain([scan_name(scan)], numbered) if name.lower() not in taken)
        taken.add(names[scan].lower())
    return names
