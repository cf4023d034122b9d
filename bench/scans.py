"""The scans that a measurement is made on: those named, real ones beside the checkout, or phantoms."""

from collections.abc import Sequence
from pathlib import Path

from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.scan.discovery import find_scans

REAL_SCANS = Path(__file__).parents[2] / "shared" / "data" / "ct" / "chest"
PHANTOMS = 4


def resolve_scans(folders: Sequence[str], place: Path, default: Sequence[Path] = (REAL_SCANS,)) -> list[Path]:
    """Scans of the folders, or of the default ones; phantoms, made in ``place``, where there are no such folders."""
    chosen = [Path(folder) for folder in folders] or [folder for folder in default if folder.is_dir()]
    if not chosen:
        synthesise(place / "made", PHANTOMS, seed=1)
        chosen = [place / "made" / "scans"]
    return find_scans(chosen)
