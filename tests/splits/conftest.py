"""Folders of files that only look like scans: dividing reads their bytes, not their voxels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import MakeScan
from numpy.typing import NDArray

from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.volume import Volume
from ct3d_edge.splits import prepared_cache
from ct3d_edge.splits.split import SplitEntry

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


@pytest.fixture
def entries(make_scan: MakeScan, tmp_path: Path, hu: NDArray[np.int16]) -> list[SplitEntry]:
    """Six scans under ``tmp_path``."""
    paths = [make_scan(f"s{n}.nii.gz", voxels=hu + np.int16(n), folder=tmp_path / "a") for n in range(6)]
    return [SplitEntry(f"a/{path.name}", "a", content_sha256(path), "train") for path in paths]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that are read from now on in this process."""
    names: list[str] = []

    def spy(path: Path) -> Volume:
        names.append(path.name)
        return read_nifti(path)

    monkeypatch.setattr(prepared_cache, "open_scan", spy)
    return names
