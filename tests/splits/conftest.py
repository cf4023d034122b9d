"""Folders of files that only look like scans: dividing reads their bytes, not their voxels."""

from collections.abc import Callable
from pathlib import Path

import pytest

Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """``fill({"CT-0": 20, "CT-23": 30})``: so many files in each class folder, each of its own content."""

    def make(counts: dict[str, int], name: str = "data") -> Path:
        folder = tmp_path / name
        for label, count in counts.items():
            (folder / label).mkdir(parents=True)
            for n in range(count):
                (folder / label / f"{label}_{n:04}.nii.gz").write_bytes(f"{label} {n}".encode())
        return folder

    return make
