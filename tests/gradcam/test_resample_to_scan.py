from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ct3d_edge.contract import Contract
from ct3d_edge.gradcam.resample_to_scan import FeatureGrid, resample_to_network, resample_to_scan, save_map
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume

CELLS = np.random.default_rng(3).random((3, 4, 2), dtype=np.float32)
GEOMETRY = FeatureGrid((2.5, 1.0, 1.5), (4.0, 2.5, 3.0))


def obvious(cells: NDArray[np.float32], geometry: FeatureGrid, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """By SciPy: linear between the centres of cells, the nearest one beyond."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)
    offset, stride = (np.reshape(part, (3, 1, 1, 1)) for part in (geometry.offset, geometry.stride))
    return np.asarray(map_coordinates(cells, (voxels - offset) / stride, order=1, mode="nearest"))


def test_the_network_grid_is_linear_interpolation_between_centres() -> None:
    shape = (16, 12, 8)
    assert np.abs(resample_to_network(CELLS, GEOMETRY, shape) - obvious(CELLS, GEOMETRY, shape)).max() < 1e-6


def lying(code: str, shape: tuple[int, int, int]) -> Volume:
    """A scan of a position each voxel, lying as its axis code says."""
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(code):
        world, sign = directions[letter]
        affine[world, axis] = sign * (axis + 1.5)
    return Volume(np.zeros(shape, np.int16), affine=affine)


@pytest.mark.parametrize(
    ("code", "orientation", "turns"),
    [
        ("LAS", "LAS", 1),
        ("RAS", "LAS", 1),
        ("PIR", "LAS", 1),
        ("SPL", "RPI", 3),
        ("LAS", "stored", 0),
        ("LPS", "LAS", 2),
    ],
)
def test_preprocessing_a_map_on_its_scan_gives_the_map_on_the_network_input(
    code: str, orientation: str, turns: int
) -> None:
    contract = Contract(shape=(16, 12, 8), orientation=orientation, quarter_turns=turns, hu_window=(0.0, 1.0))
    scan = lying(code, (31, 45, 23))  # every sample of the network's input falls on a voxel or near one
    overlay = resample_to_scan(CELLS, GEOMETRY, scan, contract)
    whole = np.stack(list(overlay.planes())).T
    assert whole.shape == scan.shape == overlay.shape
    back = preprocess(Volume(whole, affine=scan.affine), contract).volume
    assert np.abs(back - resample_to_network(CELLS, GEOMETRY, contract.shape)).max() < 0.05
    assert np.abs(back - np.flip(back, 0)).max() > 0.3, "a flip would show"


def test_a_voxel_gets_the_value_at_its_place_in_the_network_input() -> None:
    """Voxel by voxel, for a scan turned once and stored right to left."""
    contract = Contract(shape=(16, 12, 8))
    scan = lying("RAS", (7, 6, 5))
    whole = np.stack(list(resample_to_scan(CELLS, GEOMETRY, scan, contract).planes())).T
    for i, j, k in product(*map(range, scan.shape)):
        left, front, up = 1 - i / 6, j / 5, k / 4  # in the body's own directions, from 0 to 1
        place = (15 * (1 - front), 11 * left, 7 * up)  # a quarter turn: rows grow to the back, columns to the left
        at = [(p - o) / s for p, o, s in zip(place, GEOMETRY.offset, GEOMETRY.stride, strict=True)]
        expected = map_coordinates(CELLS, np.reshape(at, (3, 1)), order=1, mode="nearest")[0]
        assert whole[i, j, k] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("code", ["LAS", "PIR"])
def test_the_file_lies_on_its_scan(code: str, tmp_path: Path) -> None:
    contract = Contract(shape=(16, 12, 8))
    scan = lying(code, (9, 11, 13))
    overlay = resample_to_scan(CELLS, GEOMETRY, scan, contract)
    save_map(overlay, tmp_path / "map.nii.gz")
    image = nib.load(tmp_path / "map.nii.gz")
    assert image.shape == scan.shape
    assert scan.affine is not None
    assert np.array_equal(image.affine, scan.affine)
    assert "".join(nib.aff2axcodes(image.affine)) == code
    whole = np.stack(list(overlay.planes())).T
    assert np.abs(image.get_fdata() - whole).max() <= overlay.peak / 255
    assert image.get_data_dtype() == np.uint8
    first = (tmp_path / "map.nii.gz").read_bytes()
    save_map(overlay, tmp_path / "map.nii.gz")
    assert (tmp_path / "map.nii.gz").read_bytes() == first


def test_a_map_of_nothing_and_a_scan_without_a_place(tmp_path: Path) -> None:
    scan = Volume(np.zeros((5, 6, 7), np.int16))
    save_map(resample_to_scan(np.zeros_like(CELLS), GEOMETRY, scan, Contract(shape=(16, 12, 8))), tmp_path / "m.nii.gz")
    image = nib.load(tmp_path / "m.nii.gz")
    assert image.shape == (5, 6, 7)
    assert not image.get_fdata().any()
    assert image.header["sform_code"] == 0


@pytest.mark.parametrize(
    "data",
    [None, {}, {"offset": [1, 2, 3]}, {"offset": [1, 2], "stride": [1, 1, 1]}, {"offset": "abc", "stride": [1, 1, 1]},
     {"offset": [0, 0, 0], "stride": [1, 0, 1]}, {"offset": [0, 0, float("nan")], "stride": [1, 1, 1]}],
)  # fmt: skip
def test_places_that_are_none_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"Expected|missing"):
        FeatureGrid.from_dict(data)


def test_places_survive_being_written() -> None:
    assert FeatureGrid.from_dict(GEOMETRY.to_dict()) == GEOMETRY
