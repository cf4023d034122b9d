"""An open session, and folders of good and broken scans."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner


@pytest.fixture
def runner(make_model: MakeModel) -> Iterator[Runner]:
    """Open session of a tiny network on the CPU."""
    with Runner(load_model_file(make_model()), SessionRequest("cpu", threads=1)) as session:
        yield session


@pytest.fixture
def mixed_folder(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    """Good and broken scans, as in ``EXPECTED``."""
    folder = tmp_path / "scans"
    for name in ("01_good.nii.gz", "05_cut.nii.gz", "08_good.nii"):
        make_scan(name=name, folder=folder)
    make_scan(name="03_tilted_or_not_said.nii", affine=None, folder=folder)
    make_scan(name="04_flat.nii", voxels=hu[:, :, 0], folder=folder)
    make_scan(name="06_all_nan.nii", voxels=np.full((6, 6, 6), np.nan, np.float32), folder=folder)
    cut = folder / "05_cut.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-100])
    (folder / "02_empty.nii.gz").touch()
    (folder / "07_text.nii").write_text("not a scan")
    return folder
