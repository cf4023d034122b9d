import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import LAS, MakeScan
from numpy.typing import NDArray
from products import each_value
from scipy import ndimage

from bench.peers import tutorial
from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError
from ct3d_edge.preprocessing import MAX_NON_FINITE_FRACTION, preprocess
from ct3d_edge.scan.nifti import NiftiScan, read_nifti
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import AxisMapping, Volume

TOLERANCE = 1e-6
STORED = Contract(shape=(16, 12, 8), orientation="stored")
CODES = [
    "".join(letters) for axes in itertools.permutations(("LR", "AP", "IS")) for letters in itertools.product(*axes)
]
SOME_CODES = CODES[::5]
"""Every order of the axes and every choice of their directions, each at least once."""


def obvious(hu: NDArray[np.float64], contract: Contract) -> NDArray[np.float32]:
    """Clip, scale, turn and zoom a volume that already lies as the contract wants it, at its full size."""
    low, high = contract.hu_window
    scaled = (np.clip(hu, low, high) - low) / (high - low)
    turned = np.rot90(scaled, contract.quarter_turns, axes=(0, 1))
    factors = [wanted / found for wanted, found in zip(contract.shape, turned.shape, strict=True)]
    return np.asarray(ndimage.zoom(turned, factors, order=1), np.float32)


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def stored_as(code: str, volume: NDArray[np.int16]) -> Volume:
    """An LAS volume with 2 x 2 x 8 mm voxels, as a scanner with another axis order would have stored it."""
    order = [next(axis for axis, ends in enumerate(("LR", "AP", "SI")) if letter in ends) for letter in code]
    array, affine = volume.transpose(order), LAS[:, [*order, 3]].copy()
    for axis, letter in enumerate(code):
        if letter in "RPI":
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return Volume(np.asfortranarray(array), affine=affine)


# The tutorial


@pytest.mark.parametrize(
    ("shape", "size"),
    each_value(
        [(16, 16, 8), (12, 20, 9), (24, 24, 12), (40, 31, 25), (5, 3, 1), (1, 1, 1)],
        [(24, 24, 12), (17, 17, 5), (2, 2, 2)],
    ),
)
def test_equals_the_tutorial_on_square_slices(
    make_scan: MakeScan, size: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    noise = np.random.default_rng(3).integers(-1500, 900, size).astype(np.int16)
    path = make_scan(voxels=noise)
    found = preprocess(NiftiScan(path), Contract(shape=shape)).volume
    assert np.array_equal(found, preprocess(read_nifti(path), Contract(shape=shape)).volume), "streamed as in memory"
    assert_close(found, tutorial.preprocess(path, shape))


@pytest.mark.parametrize("depth", [2, 3, 7, 11, 64, 65])
def test_equals_the_tutorial_at_any_depth(make_scan: MakeScan, depth: int) -> None:
    noise = np.random.default_rng(depth).integers(-1500, 900, (10, 10, depth)).astype(np.int16)
    path = make_scan(voxels=noise)
    found = preprocess(read_nifti(path), Contract(shape=(8, 8, 7))).volume
    assert_close(found, tutorial.preprocess(path, (8, 8, 7)))


@pytest.mark.slow
def test_equals_the_tutorial_on_a_real_chest(real_scans: Path) -> None:
    path = real_scans / "chest" / "nodule_lidc-0001_o0.nii.gz"
    assert_close(preprocess(read_nifti(path), Contract()).volume, tutorial.preprocess(path))


@pytest.mark.parametrize("code", SOME_CODES)
def test_a_single_sample_is_the_first_along_the_networks_axis(hu: NDArray[np.int16], code: str) -> None:
    contract = Contract(shape=(1, 1, 1))
    assert_close(preprocess(stored_as(code, hu), contract).volume, obvious(hu.astype(float), contract))


# Turns and slices that are not square


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, -1, 7])
def test_quarter_turns_count_as_in_numpy(hu: NDArray[np.int16], turns: int) -> None:
    contract = replace(STORED, quarter_turns=turns)
    assert_close(preprocess(Volume(hu), contract).volume, obvious(hu.astype(float), contract))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_at_its_own_size_a_volume_is_only_turned(hu: NDArray[np.int16], turns: int) -> None:
    expected = np.rot90(np.clip((hu.astype(float) + 1000) / 1400, 0, 1), turns)
    i, j, k = expected.shape
    contract = Contract(shape=(i, j, k), orientation="stored", quarter_turns=turns)
    assert_close(preprocess(Volume(hu), contract).volume, expected.astype(np.float32))


def test_a_mapping_turned_describes_rot90(hu: NDArray[np.int16]) -> None:
    for quarters in range(5):
        mapping = AxisMapping().rotated(quarters)
        flips = tuple(axis for axis, flip in enumerate(mapping.flips) if flip)
        np.testing.assert_array_equal(np.flip(hu.transpose(mapping.axes), flips), np.rot90(hu, quarters))


@pytest.mark.parametrize("size", [(30, 10, 6), (10, 30, 6), (7, 6, 9)])
def test_slices_that_are_not_square_are_kept_whole(size: tuple[int, int, int]) -> None:
    bright_rim = np.full(size, -1000, np.int16)
    bright_rim[[0, -1]] = 400
    bright_rim[:, [0, -1]] = 400
    found = preprocess(Volume(bright_rim), STORED).volume
    assert_close(found, obvious(bright_rim.astype(float), STORED))
    for side in (found[0], found[-1], found[:, 0], found[:, -1]):
        np.testing.assert_array_equal(side, 1)


# Orientation


@pytest.mark.parametrize("code", SOME_CODES)
def test_how_a_scan_was_stored_does_not_matter(hu: NDArray[np.int16], contract: Contract, code: str) -> None:
    volume = stored_as(code, hu)
    assert volume.axis_code == code
    prepared = preprocess(volume, contract)
    assert_close(prepared.volume, obvious(hu.astype(float), contract))
    assert prepared.flags == ()


@pytest.mark.parametrize("target", SOME_CODES)
def test_a_contract_may_ask_for_any_orientation(hu: NDArray[np.int16], target: str) -> None:
    contract = replace(STORED, orientation=target)
    expected = obvious(stored_as(target, hu).stored.astype(float), contract)
    assert_close(preprocess(Volume(hu, affine=LAS), contract).volume, expected)
    assert_close(preprocess(stored_as("PIR", hu), contract).volume, expected)


@pytest.mark.parametrize("code", ["RAS", "PIR", "SPL"])
def test_stored_order_ignores_the_affine(hu: NDArray[np.int16], code: str) -> None:
    affine = stored_as(code, hu).affine
    prepared = preprocess(Volume(hu, affine=affine), STORED)
    np.testing.assert_array_equal(prepared.volume, preprocess(Volume(hu), STORED).volume)
    assert prepared.flags == ()


def test_the_three_body_axes_can_be_told_apart(hu: NDArray[np.int16], contract: Contract) -> None:
    """Otherwise the tests above would compare nothing."""
    as_if_las = [preprocess(Volume(stored_as(code, hu).stored), contract).volume for code in CODES]
    for one, other in itertools.combinations(as_if_las, 2):
        assert np.abs(one - other).max() > 0.05


def test_without_an_affine_las_is_assumed_and_remarked(hu: NDArray[np.int16], contract: Contract) -> None:
    prepared = preprocess(Volume(hu), contract)
    np.testing.assert_array_equal(prepared.volume, preprocess(Volume(hu, affine=LAS), contract).volume)
    assert [(flag.code, flag.severity) for flag in prepared.flags] == [("no_orientation", "refuse")]


@pytest.mark.parametrize(("degrees", "codes"), [(0, []), (4.9, []), (5.1, ["oblique"]), (-12, ["oblique"])])
def test_a_tilt_is_remarked_but_not_undone(
    hu: NDArray[np.int16], contract: Contract, degrees: float, codes: list[str]
) -> None:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    tilt = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1.0]])
    prepared = preprocess(Volume(hu, affine=tilt @ LAS), contract)
    assert [flag.code for flag in prepared.flags] == codes
    np.testing.assert_array_equal(prepared.volume, preprocess(Volume(hu, affine=LAS), contract).volume)


# Numbers


KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def stored_like(kind: str, hu: NDArray[np.int16]) -> Volume:
    """The volume in a number type, with the slope and intercept that let it fit."""
    slope = {"i1": 16, "u1": 8}.get(kind, 0.5)
    intercept = -1024 if kind.startswith("u") else 24 if kind.startswith("i") else 0
    return Volume(((hu - float(intercept)) / slope).astype(kind), slope, intercept, LAS)


@pytest.mark.parametrize(("order", "kind"), each_value(["<", ">"], KINDS))
def test_every_number_type_gives_the_same_input(
    hu: NDArray[np.int16], contract: Contract, kind: str, order: str
) -> None:
    volume = stored_like(kind, hu)
    expected = obvious(volume.stored.astype(float) * volume.slope + volume.intercept, contract)
    swapped = replace(volume, stored=volume.stored.astype(order + kind))
    assert_close(preprocess(swapped, contract).volume, expected)


@pytest.mark.parametrize("kind", ["i4", "u4", "i8", "u8", "f8"])
def test_wide_numbers_are_scaled_before_they_lose_digits(hu: NDArray[np.int16], contract: Contract, kind: str) -> None:
    far = 1 << 30
    volume = Volume((hu.astype(np.int64) + far).astype(kind), 1, -far, LAS)
    assert_close(preprocess(volume, contract).volume, obvious(hu.astype(float), contract))


def test_slope_and_intercept_come_before_the_window(contract: Contract) -> None:
    """The stored numbers lie far outside the window; their HU lie inside."""
    stored = np.random.default_rng(5).integers(10_000, 20_000, (20, 20, 9)).astype(np.int16)
    volume = Volume(stored, slope=0.1, intercept=-1900, affine=LAS)
    prepared = preprocess(volume, contract).volume
    assert_close(prepared, obvious(stored.astype(float) * 0.1 - 1900, contract))
    assert np.std(prepared) > 0.05


@pytest.mark.parametrize("window", [(-1000, 400), (-1350.5, 150.25), (0, 1)])
def test_the_window_becomes_zero_to_one(hu: NDArray[np.int16], contract: Contract, window: tuple[float, float]) -> None:
    narrowed = replace(contract, hu_window=window)
    found = preprocess(Volume(hu, affine=LAS), narrowed).volume
    assert_close(found, obvious(hu.astype(float), narrowed))
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("kind", ["i2", "f4", "f8"])
def test_values_far_outside_the_window_stay_within_zero_to_one(kind: str, contract: Contract) -> None:
    stored = np.random.default_rng(6).choice([-32768, 32767], (20, 20, 10)).astype(kind)
    found = preprocess(Volume(stored, affine=LAS), contract).volume
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8"])
@pytest.mark.parametrize(("value", "means"), [(np.nan, -1000), (np.inf, 400), (-np.inf, -1000)])
def test_what_is_not_finite_becomes_an_end_of_the_window(
    hu: NDArray[np.int16], contract: Contract, value: float, means: float, kind: str
) -> None:
    broken, mended = hu.astype(kind), hu.astype(float)
    broken[:5], mended[:5] = value, means
    prepared = preprocess(Volume(broken, affine=LAS), contract)
    assert_close(prepared.volume, obvious(mended, contract))
    assert [(flag.code, flag.severity) for flag in prepared.flags] == [("non_finite", "warn")]


def test_a_negative_slope_turns_infinity_round(contract: Contract) -> None:
    stored = np.zeros((6, 6, 6), np.float32)
    stored[:2] = np.inf
    prepared = preprocess(Volume(stored, slope=-1, affine=LAS), contract).volume
    assert prepared.min() == 0
    assert prepared.max() == pytest.approx(1000 / 1400)


def test_the_flag_says_how_much_is_not_finite(hu: NDArray[np.int16]) -> None:
    stored = hu.astype(np.float32)
    stored[:6] = np.nan
    own_size = Contract(shape=hu.shape, orientation="stored", quarter_turns=0)
    (flag,) = preprocess(Volume(stored), own_size).flags
    fraction = float(flag.detail.split("%")[0])
    assert fraction == pytest.approx(25, abs=4)  # the last plane of each axis is sampled twice


def partly_nan(columns: int) -> Volume:
    """Tissue in which that many of ten columns are NaN."""
    stored = np.arange(1200, dtype=np.float32).reshape(10, 10, 12)
    stored[:columns] = np.nan
    return Volume(stored, affine=LAS)


@pytest.mark.parametrize("columns", [7, 10])
def test_more_than_half_not_finite_is_refused(contract: Contract, columns: int) -> None:
    with pytest.raises(RefusedScanError, match="too few are left") as caught:
        preprocess(partly_nan(columns), contract)
    assert caught.value.code == "non_finite"


@pytest.mark.parametrize("columns", [1, 4])
def test_less_than_half_not_finite_is_a_flag(contract: Contract, columns: int) -> None:
    prepared = preprocess(partly_nan(columns), contract)
    assert [flag.code for flag in prepared.flags] == ["non_finite"]


def test_a_circular_field_of_view_padded_with_nan_is_accepted(contract: Contract) -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40), indexing="ij")
    stored = np.where((x**2 + y**2 > 1)[..., None], np.nan, np.zeros((40, 40, 6), np.float32))
    prepared = preprocess(Volume(stored, affine=LAS), contract)
    assert np.isnan(stored).mean() < MAX_NON_FINITE_FRACTION
    assert [flag.code for flag in prepared.flags] == ["non_finite"]


# What comes out


@pytest.mark.parametrize(("code", "orientation"), each_value(["LAS", "RAS", "PIR", "SPL"], ["LAS", "stored", "SPR"]))
def test_the_result_is_contiguous_float32_of_the_contracts_shape(
    hu: NDArray[np.int16], contract: Contract, code: str, orientation: str
) -> None:
    found = preprocess(stored_as(code, hu), replace(contract, orientation=orientation)).volume
    assert found.dtype == np.float32
    assert found.shape == contract.shape
    assert found.flags.c_contiguous


@pytest.mark.parametrize(("kind", "memory"), each_value(KINDS, ["C", "F"]))
def test_the_scan_is_not_modified(hu: NDArray[np.int16], contract: Contract, kind: str, memory: str) -> None:
    volume = stored_like(kind, hu)
    stored = np.array(volume.stored, order=memory)  # type: ignore[call-overload]
    stored.flags.writeable = False
    preprocess(replace(volume, stored=stored), contract)
    np.testing.assert_array_equal(stored, volume.stored)


def test_non_finite_voxels_are_not_mended_in_place(contract: Contract) -> None:
    stored = np.zeros((6, 6, 6), np.float32)
    stored[0] = np.nan
    preprocess(Volume(stored, affine=LAS), contract)
    assert np.isnan(stored[0]).all()


def test_how_the_array_lies_in_memory_does_not_matter(hu: NDArray[np.int16], contract: Contract) -> None:
    wide = np.zeros((48, 20, 24), np.int16)
    view = wide[::2, :, ::2]
    view[:] = hu
    expected = preprocess(Volume(np.asfortranarray(hu), affine=LAS), contract).volume
    for stored in (np.ascontiguousarray(hu), view):
        np.testing.assert_array_equal(preprocess(Volume(stored, affine=LAS), contract).volume, expected)


def test_what_reading_noticed_comes_first(hu: NDArray[np.int16], contract: Contract) -> None:
    noticed = QCFlag("extension_mismatch", "warn", "It is.")
    prepared = preprocess(Volume(hu, flags=(noticed,)), contract)
    assert [flag.code for flag in prepared.flags] == ["extension_mismatch", "no_orientation"]
    assert prepared.flags[0] is noticed


def test_no_thread_of_a_library_goes_on_working_after_a_scan() -> None:
    """OpenBLAS's wait in a loop, on a core that the next scan needs. CPU time is counted while there is no work."""
    program = """
import time
import numpy as np
from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume

volume = Volume(np.zeros((160, 160, 90), np.int16))
for _ in range(3):
    preprocess(volume, Contract())
before = time.process_time()
time.sleep(0.05)
print(time.process_time() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 0.01
