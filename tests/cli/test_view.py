from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray
from PIL import Image

from ct3d_edge.augmentation.registry import AUGMENTATIONS, AugmentationName, get_augmentation
from ct3d_edge.cli.view import RandomAugmentationName
from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.report.montage import extract_slice
from ct3d_edge.scan.nifti import NiftiScan

from .conftest import Run


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert np.asarray(picture).std() > 10, "something can be seen"
        return picture.size


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_draws_a_grid_or_one_slice_under_the_default_contract(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    scan, grid, one = make_scan(), tmp_path / "grid.png", tmp_path / "one.png"
    assert run("view", scan, "--out", grid, "--rows", 2, "--columns", 3).code == 0
    assert run("view", scan, "--out", one, "--slice", 30).code == 0
    assert size(grid) == (3 * 128, 2 * 128)
    assert size(one) == (128, 128)


def test_follows_a_models_contract(run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path) -> None:
    assert run("view", make_scan(), "--out", tmp_path / "a.png", "--model", make_model(), "--slice", 4).code == 0
    assert size(tmp_path / "a.png") == (12, 16)


@pytest.mark.parametrize("name", get_args(RandomAugmentationName))
def test_draws_what_training_sees(
    run: Run, make_scan: MakeScan, make_model: MakeModel, contract: Contract, tmp_path: Path, name: AugmentationName
) -> None:
    scan, arguments = make_scan(), ["--model", make_model(), "--slice", 4, "--augmented", name]
    for seed, rest in enumerate(([], ["--seed", 1])):
        out = tmp_path / f"{seed}.png"
        assert run("view", scan, "--out", out, *arguments, *rest).code == 0
        volume = get_augmentation(name, contract)(
            preprocess(NiftiScan(scan), contract).volume, np.random.default_rng(seed)
        )
        assert np.array_equal(pixels(out), extract_slice(volume, 4))
    assert not np.array_equal(pixels(tmp_path / "0.png"), pixels(tmp_path / "1.png")), "each seed draws another"


def test_every_augmentation_that_changes_something_can_be_drawn() -> None:
    assert {*get_args(RandomAugmentationName), "none"} == set(AUGMENTATIONS)


def test_a_seed_needs_something_to_draw(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    outcome = run("view", make_scan(), "--out", tmp_path / "a.png", "--seed", 1)
    assert outcome.code == 2
    assert "--augmented six-angles" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--slice", "64"], 2),
        (["--rows", "0"], 2),
        (["--model", "absent.onnx"], 3),
        (["--augmented", "mixup"], 2),
        (["--augmented", "six-angles", "--seed", "-1"], 2),
    ],
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


def test_a_series_is_drawn_even_if_no_model_may_judge_it(run: Run, hu: NDArray[np.int16], tmp_path: Path) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    folder = made.write_series(tmp_path / "in", hu)
    (folder / "005.dcm").unlink()
    outcome = run("view", folder, "--out", tmp_path / "a.png")
    assert outcome.code == 0
    assert "missing_slices" in outcome.err
    made.write_series(folder, hu, "1.2.4", name="other {}.dcm")
    outcome = run("view", folder, "--out", tmp_path / "b.png")
    assert outcome.code == 2
    assert "holds 2 scans" in outcome.err
    assert run("view", folder, "--out", tmp_path / "b.png", "--series-uid", "1.2.4").code == 0
    assert (tmp_path / "b.png").stat().st_size > 1000
