"""Slices of another scale and volumes that take turns are found, and never in a sound volume."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.quality_control.slice_checks import find_outliers
from ct3d_edge.quality_control.voxel_checks import intensity_flags
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.volume import Volume

AFFINE = np.diag([-2.0, 2.0, 8.0, 1.0])
SHAPE = (160, 160, 40)
CHECKS = ("outlier_slices", "interleaved_slices")


def phantom(seed: int, slices: int = SHAPE[2]) -> NDArray[np.int16]:
    hu: NDArray[np.int16] = make_phantom(seed, abnormal=seed % 2 == 1, shape=(*SHAPE[:2], slices)).hu
    return hu


def flags_of(
    hu: NDArray[np.int16], depth: int = 64, affine: NDArray[np.float64] = AFFINE
) -> dict[str, tuple[str, object]]:
    contract = Contract(shape=(128, 128, depth))
    scan = Volume(hu, affine=affine)
    found = intensity_flags(scan, preprocess(scan, contract), contract)
    return {flag.code: (flag.severity, flag.value) for flag in found if flag.code in CHECKS}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("depth", [32, 64, 128])
def test_sound_volumes_have_no_flag(seed: int, depth: int) -> None:
    found = flags_of(phantom(seed), depth)
    assert {severity for severity, _ in found.values()} == {"ok"}
    assert tuple(found) == CHECKS


CHANGES: dict[str, Callable[[NDArray[np.int16]], NDArray[np.int16]]] = {
    "no intercept": lambda plane: plane + 1024,
    "half the slope": lambda plane: plane // 2,
    "empty": lambda plane: np.full_like(plane, -1000),
    "zeros": np.zeros_like,
    "negative": lambda plane: -plane,
}


@pytest.mark.parametrize(
    ("change", "where", "depth"),
    each_pair(CHANGES, [range(20, 21), range(12, 15), range(1), range(39, 40), range(30, 40), (10, 25)], [64, 128]),
)
def test_slices_of_another_scale_are_counted(change: str, where: range, depth: int) -> None:
    hu = phantom(2)
    for k in where:
        hu[:, :, k] = CHANGES[change](hu[:, :, k])
    assert flags_of(hu, depth)["outlier_slices"] == ("warn", len(where))


@pytest.mark.parametrize(
    ("kind", "slices", "depth"),
    each_pair(["another breath", "another patient", "upside down", "mirrored"], [40, 75, 140], [32, 64, 128]),
)
def test_two_volumes_in_turn_are_refused(kind: str, slices: int, depth: int) -> None:
    one = phantom(4, slices)
    others = {
        "another breath": one[:, :, np.clip(np.arange(slices) - max(slices // 15, 3), 0, None)],
        "another patient": phantom(7, slices),
        "upside down": one[:, :, ::-1],
        "mirrored": one[::-1],
    }
    hu = np.where(np.arange(slices) % 2, others[kind], one)
    assert flags_of(hu, depth)["interleaved_slices"][0] == "refuse"


def test_scans_of_few_slices_are_not_compared() -> None:
    assert flags_of(phantom(1, 16)[:, :, 5:12]) == {}


def test_planes_across_slices_are_not_compared() -> None:
    assert flags_of(phantom(1), affine=np.diag([2.0, 2.0, 8.0, 1.0]))
    assert flags_of(phantom(1).transpose(2, 1, 0), affine=np.diag([8.0, 2.0, 2.0, 1.0])) == {}


def test_a_step_marks_the_smaller_side() -> None:
    samples = np.tile(np.linspace(0, 0.3, 64, dtype=np.float32), (12, 1))
    samples[:4] += 0.5
    assert find_outliers(samples, 1400).tolist() == [0, 1, 2, 3]
    assert find_outliers(samples, 100).tolist() == []


def test_real_scans_have_no_flag(real_scans: Path) -> None:
    for folder in (real_scans / "chest", real_scans.parent / "dicom" / "covid_ricord1a-001012"):
        for scan in find_scans([folder]):
            report = QualityChecker(Contract()).check(scan)
            assert report.status == "ok", (scan, report)
            assert {flag.code for flag in report.flags}.issuperset(CHECKS)
