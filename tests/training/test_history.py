from pathlib import Path

import numpy as np
from PIL import Image

from ct3d_edge.training.history import EpochRecord, draw_curves


def _records(count: int) -> list[EpochRecord]:
    return [EpochRecord(n, 1 / n, 0.5, 0.5, 1.1 / n, 0.4, 0.6, 1.0, 1e-4) for n in range(1, count + 1)]


def test_three_panels_with_something_in_each(tmp_path: Path) -> None:
    records = _records(5)
    draw_curves(records, records[2], tmp_path / "curves.png")
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=2) > 60
    thirds = np.array_split(coloured, 3, axis=1)
    assert all(third.sum() > 200 for third in thirds)


def test_one_epoch_is_enough(tmp_path: Path) -> None:
    records = _records(1)
    draw_curves(records, records[0], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0
