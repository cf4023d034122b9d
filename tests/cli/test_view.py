from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from PIL import Image

from .conftest import Run


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert np.asarray(picture).std() > 10, "something can be seen"
        return picture.size


def test_draws_a_grid_or_one_slice_under_the_default_contract(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    scan, grid, one = make_scan(), tmp_path / "grid.png", tmp_path / "one.png"
    assert run("view", scan, "--out", grid, "--rows", 2, "--columns", 3).code == 0
    assert run("view", scan, "--out", one, "--slice", 30).code == 0
    assert size(grid) == (3 * 128, 2 * 128)
    assert size(one) == (128, 128)


def test_follows_a_models_contract(run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path) -> None:
    assert run("view", make_scan(), "--out", tmp_path / "a.png", "--model", make_model(), "--slice", 4).code == 0
    assert size(tmp_path / "a.png") == (12, 16)


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--slice", "64"], 2), (["--rows", "0"], 2), (["--model", "absent.onnx"], 3)]
)
def test_what_cannot_be_drawn_leaves_no_picture(
    run: Run, make_scan: MakeScan, tmp_path: Path, arguments: list[str], code: int
) -> None:
    assert run("view", make_scan(), "--out", tmp_path / "a.png", *arguments).code == code
    assert not (tmp_path / "a.png").exists()


def test_a_broken_scan_is_a_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.nii").touch()
    outcome = run("view", tmp_path / "b.nii", "--out", tmp_path / "a.png")
    assert outcome.code == 1
    assert "b.nii is empty" in outcome.err
