import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ct3d_edge.errors import UsageError
from ct3d_edge.report.montage import CAPTION_HEIGHT, MAX_ROWS, SLICES_PER_SCAN, Montage
from ct3d_edge.results.record import Prediction, ResultRecord, ScanFailure, Timing

SHAPE = (16, 40, 8)


def record(scan: str = "scan.nii.gz") -> ResultRecord:
    answer = Prediction("normal", (("normal", 0.75), ("abnormal", 0.25)), 0.5)
    return ResultRecord(scan, "ok", answer, None, (), Timing(1, 2, 3), "m", "c", "auto", "cpu", (("cpu", 5),))


def drawn(path: Path, *volumes: NDArray[np.float32], scan: str = "scan.nii.gz") -> NDArray[np.uint8]:
    """Pixels of the picture of some scans."""
    montage = Montage(path / "montage.png")
    for volume in volumes:
        montage.add(record(scan), volume)
    montage.save()
    with Image.open(path / "montage.png") as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def levels() -> NDArray[np.float32]:
    """A volume whose slices are each of one grey."""
    return np.broadcast_to(np.linspace(0, 1, SHAPE[2], dtype=np.float32), SHAPE).copy()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_picture_has_a_strip_a_scan(tmp_path: Path, count: int) -> None:
    assert drawn(tmp_path, *[levels()] * count).shape == (
        count * (SHAPE[0] + CAPTION_HEIGHT),
        SLICES_PER_SCAN * SHAPE[1],
    )


def test_a_strip_shows_the_middle_slices_in_order(tmp_path: Path) -> None:
    pixels = drawn(tmp_path, levels())[CAPTION_HEIGHT:]
    greys = [int(pixels[0, SHAPE[1] * n]) for n in range(SLICES_PER_SCAN)]
    assert greys == [int(255 * slice_ / 7) for slice_ in (1, 2, 3, 4, 5, 6)]
    assert (pixels == np.repeat(greys, SHAPE[1])).all()


def test_a_slice_is_drawn_upright(tmp_path: Path) -> None:
    volume = np.zeros(SHAPE, np.float32)
    volume[0, :, :] = 1
    volume[:, 0, :] = 0.5
    pixels = drawn(tmp_path, volume)[CAPTION_HEIGHT : CAPTION_HEIGHT + SHAPE[0], : SHAPE[1]]
    np.testing.assert_array_equal(pixels, (volume[:, :, 3] * 255).astype(np.uint8))


def test_values_outside_zero_to_one_do_not_wrap(tmp_path: Path) -> None:
    pixels = drawn(tmp_path, np.full(SHAPE, 1.5, np.float32), np.full(SHAPE, -0.5, np.float32))
    height = SHAPE[0] + CAPTION_HEIGHT
    assert (pixels[CAPTION_HEIGHT:height] == 255).all()
    assert (pixels[height + CAPTION_HEIGHT :] == 0).all()


def test_the_caption_differs_between_scans(tmp_path: Path) -> None:
    one, other = drawn(tmp_path, levels(), scan="a.nii"), drawn(tmp_path, levels(), scan="b.nii")
    assert (one[:CAPTION_HEIGHT] != other[:CAPTION_HEIGHT]).any()
    assert (one[CAPTION_HEIGHT:] == other[CAPTION_HEIGHT:]).all()


def test_a_scan_without_an_answer_is_drawn_under_its_name_alone(tmp_path: Path) -> None:
    montage = Montage(tmp_path / "refused.png")
    montage.add(replace(record(), status="refused", prediction=None, failure=ScanFailure("x", "Why.")), levels())
    montage.save()
    has_prediction = drawn(tmp_path, levels())
    with Image.open(tmp_path / "refused.png") as picture:
        refused = np.asarray(picture)
    assert (refused[CAPTION_HEIGHT:] == has_prediction[CAPTION_HEIGHT:]).all()
    assert (refused[:CAPTION_HEIGHT] > refused.min()).sum() < (
        has_prediction[:CAPTION_HEIGHT] > has_prediction.min()
    ).sum()


def test_shallow_volumes_have_fewer_slices(tmp_path: Path) -> None:
    assert drawn(tmp_path, np.zeros((16, 40, 1), np.float32)).shape == (16 + CAPTION_HEIGHT, 40)
    assert drawn(tmp_path, np.zeros((16, 40, 3), np.float32)).shape == (16 + CAPTION_HEIGHT, 120)


def test_a_picture_of_no_scan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No scan was added to the picture .*montage\.png"):
        drawn(tmp_path)
    assert not (tmp_path / "montage.png").exists()


def test_no_more_than_the_most_rows_are_drawn(tmp_path: Path) -> None:
    tiny = np.zeros((2, 2, 2), np.float32)
    assert drawn(tmp_path, *[tiny] * (MAX_ROWS + 3)).shape[0] == MAX_ROWS * (2 + CAPTION_HEIGHT) + 1 + CAPTION_HEIGHT


@pytest.mark.parametrize(
    "scan",
    ["a\nb.nii", "a\x00\x1b[31m.nii", "肺🫁.nii", os.fsdecode(b"a\xff.nii"), "[red]a.nii", "", "x" * 500],
    ids=["newline", "control", "other alphabets", "no UTF-8", "markup", "nothing", "long"],
)
def test_no_name_stops_the_picture_or_changes_its_size(tmp_path: Path, scan: str) -> None:
    pixels = drawn(tmp_path, levels(), scan=scan)
    assert pixels.shape == (SHAPE[0] + CAPTION_HEIGHT, SLICES_PER_SCAN * SHAPE[1])
    np.testing.assert_array_equal(pixels[CAPTION_HEIGHT:], drawn(tmp_path, levels())[CAPTION_HEIGHT:])


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot write"):
        Montage(tmp_path / "nowhere" / "montage.png")
