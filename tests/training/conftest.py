"""Tiny folders of scans: noise in one class, noise with a bright ball in the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from networks import KERAS

if TYPE_CHECKING:
    from ct3d_edge.training.presets import Preset

# The root conftest says so aloud.
collect_ignore_glob = [] if KERAS else ["test_*.py"]

FolderMaker = Callable[..., Path]

SMALLEST = (46, 46, 46)


def plain(**changes: Any) -> "Preset":
    """One epoch in the tutorial's way, without augmentation; loss selects and stops."""
    from ct3d_edge.training.presets import TUTORIAL

    return replace(TUTORIAL, **{"epochs": 1, "augmentation": "none", "stop_by": "val_loss", **changes})


def write_scan(path: Path, *, seed: int, ball: bool) -> None:
    """Write a 12x12x10 int16 scan in HU."""
    rng = np.random.default_rng(seed)
    hu = rng.integers(-900, -600, (12, 12, 10)).astype(np.int16)
    if ball:
        hu[4:8, 4:8, 3:7] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(hu, np.diag([-1.0, 1.0, 1.0, 1.0])), path)


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderMaker:
    """Give a function that writes ``count`` scans into each class folder; it returns the folder above."""

    def make(*classes: str, count: int = 4, name: str = "data") -> Path:
        for label, folder in enumerate(classes):
            for n in range(count):
                path = tmp_path / name / folder / f"study_{n:02}.nii.gz"
                write_scan(path, seed=100 * label + n, ball=label == 1)
        return tmp_path / name

    return make
