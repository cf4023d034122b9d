"""Slices in an order that is not theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.quality_control.voxel_checks import count_broken_neighbours
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Volume

AFFINE = np.diag([-2.2, 2.2, 8.0, 1.0])
CONTRACT = Contract()


@pytest.fixture(scope="module")
def chest() -> NDArray[np.int16]:
    """(160, 160, 40) int16 HU."""
    hu: NDArray[np.int16] = make_phantom(3, abnormal=True, shape=(160, 160, 40)).hu
    return hu


def order_flag(hu: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> QCFlag:
    """The flag of a volume that has at least as many slices as the check needs."""
    volume = Volume(hu, affine=affine)
    found = QualityChecker(CONTRACT).flags(Path("scan"), volume, preprocess(volume, CONTRACT))
    return next((flag for flag in found if flag.code == "slice_order"), QCFlag("slice_order", "ok", ""))


def by_name(count: int) -> list[int]:
    """Slices 1, 10, 11, ... 2, 20, ..., as file names sort."""
    return [int(name) - 1 for name in sorted(str(n + 1) for n in range(count))]


ORDERS: dict[str, tuple[Callable[[int], list[int]], str]] = {
    "as they lie": (lambda n: list(range(n)), "ok"),
    "upside down": (lambda n: list(range(n))[::-1], "ok"),
    "by name": (by_name, "refuse"),
    "at random": (lambda n: list(np.random.default_rng(0).permutation(n)), "refuse"),
    "even before odd": (lambda n: [*range(0, n, 2), *range(1, n, 2)], "refuse"),
    "halves exchanged": (lambda n: [*range(n // 2, n), *range(n // 2)], "refuse"),
    "a quarter at the other end": (lambda n: [*range(n // 4, n), *range(n // 4)], "refuse"),
    "two exchanged": (lambda n: [*range(9), 30, *range(10, 30), 9, *range(31, n)], "refuse"),
}


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize(("order", "severity"), ORDERS.values(), ids=ORDERS)
def test_slices_out_of_order_are_refused(
    chest: NDArray[np.int16], order: Callable[[int], list[int]], severity: str, axis: int
) -> None:
    hu = np.moveaxis(chest[:, :, order(chest.shape[2])], 2, axis)
    affine = AFFINE if axis == 2 else np.array([[0, -2.2, 0, 0], [0, 0, 2.2, 0], [8.0, 0, 0, 0], [0, 0, 0, 1]])
    flag = order_flag(hu, affine)
    assert flag.severity == severity, flag.detail


@pytest.mark.parametrize("fill", [-1000, 0, 60])
def test_padding_at_both_ends_is_in_order(chest: NDArray[np.int16], fill: int) -> None:
    hu = np.pad(chest, ((0, 0), (0, 0), (6, 3)), constant_values=fill)
    assert order_flag(hu).severity == "ok"


@pytest.mark.slow
def test_exchanged_parts_are_found_wherever_they_meet_and_sound_chests_pass(real_scans: Path) -> None:
    scans = map(read_nifti, sorted((real_scans / "chest").glob("*.nii.gz")))
    real = [scan.stored * np.float32(scan.slope) + np.float32(scan.intercept) for scan in scans]
    for hu in [*real, *(make_phantom(seed, abnormal=True, shape=(160, 160, 40)).hu for seed in range(3000, 3006))]:
        assert order_flag(hu).severity == "ok"
        for end in range(14, hu.shape[2], 8):
            assert order_flag(hu[:, :, :end]).severity == "ok"
        found = [order_flag(np.roll(hu, first, axis=2)).severity for first in range(3, hu.shape[2] - 2, 2)]
        assert found.count("ok") <= 1  # where the parts meet at the largest step of the scan


def test_noise_has_no_order() -> None:
    noise = np.random.default_rng(1).normal(size=(30, 500))
    assert count_broken_neighbours(np.linalg.norm(noise[:, None] - noise[None], axis=2).astype(np.float32)) == 0


def test_what_is_symmetric_from_head_to_foot_is_in_order() -> None:
    places = np.abs(np.linspace(-1, 1, 30))
    assert count_broken_neighbours(np.abs(places[:, None] - places[None]).astype(np.float32)) == 0


def test_slices_that_are_all_the_same_are_in_order() -> None:
    """A body drawn with two values and no noise: which slice is nearest is a matter of rounding."""
    hu = np.full((64, 64, 32), -1000, np.int16)
    hu[8:56, 12:52] = 40
    hu[14:28, 20:44, 4:26] = hu[36:50, 20:44, 4:26] = -850
    assert order_flag(hu).severity == "ok"


@pytest.mark.parametrize("side", [64, 96, 128, 160])
def test_sound_slices_pass_at_every_size_of_the_network_input(side: int) -> None:
    seed = int(np.random.SeedSequence([4712, 21]).generate_state(1, np.uint64)[0])  # one that 24 x 24 samples refused
    phantom = make_phantom(seed, abnormal=True, shape=(256, 256, 40))
    affine = np.diag([-phantom.spacing[0], phantom.spacing[1], phantom.spacing[2], 1])
    volume, contract = Volume(phantom.hu, affine=affine), Contract(shape=(side, side, 64))
    (flag,) = (
        flag
        for flag in QualityChecker(contract).flags(Path("scan"), volume, preprocess(volume, contract))
        if flag.code == "slice_order"
    )
    assert flag.severity == "ok", flag.detail
