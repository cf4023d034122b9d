import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.report.montage import extract_slice, make_slice_grid

VOLUME = np.linspace(0, 1, 3 * 2 * 5, dtype=np.float32).reshape(3, 2, 5)


def grey(values: np.ndarray) -> np.ndarray:
    return (values * 255).round().astype(np.uint8)


def test_slices_stand_in_reading_order() -> None:
    grid = make_slice_grid(VOLUME, 2, 3)
    assert grid.shape == (6, 6)
    for place in range(5):
        row, column = divmod(place, 3)
        assert (grid[3 * row : 3 * row + 3, 2 * column : 2 * column + 2] == grey(VOLUME[:, :, place])).all()
    assert not grid[3:, 4:].any(), "a place without a slice is black"


def test_fewer_places_than_slices_show_the_first_and_the_last() -> None:
    grid = make_slice_grid(VOLUME, 1, 2)
    assert (grid == np.hstack([grey(VOLUME[:, :, 0]), grey(VOLUME[:, :, 4])])).all()


@pytest.mark.parametrize("index", [0, 4, -1, -5])
def test_one_slice_is_that_slice(index: int) -> None:
    assert (extract_slice(VOLUME, index) == grey(VOLUME[:, :, index])).all()


@pytest.mark.parametrize("index", [5, -6])
def test_a_slice_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(UsageError, match=f"no slice {index}; the network input has 5"):
        extract_slice(VOLUME, index)


@pytest.mark.parametrize(("rows", "columns"), [(0, 1), (1, -1)])
def test_an_empty_grid_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(UsageError, match="at least one row"):
        make_slice_grid(VOLUME, rows, columns)
