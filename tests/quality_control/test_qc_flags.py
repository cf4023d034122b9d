"""Every check: what passes it, what does not, and the value it measures."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.check_registry import CHECKS, require_downgradable
from ct3d_edge.quality_control.checker import QualityChecker, input_sha256
from ct3d_edge.quality_control.voxel_checks import lung_fraction
from ct3d_edge.scan.qc_flag import QCFlag, Severity
from ct3d_edge.scan.volume import Volume

CONTRACT = Contract(shape=(64, 64, 16))
SHAPE = (64, 64, 32)
AFFINE = np.diag([-5.0, 5.0, 9.0, 1.0])

Chest = NDArray[np.int16]


@pytest.fixture(scope="module")
def chest() -> Chest:
    """(64, 64, 32) int16 HU: air, an elliptic body with two lungs in it, noise."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    hu = np.where((x / 0.9) ** 2 + (y / 0.7) ** 2 < 1, 40, -1000)
    hu = np.where(((np.abs(x) - 0.45) / 0.3) ** 2 + (y / 0.45) ** 2 + (z / 1.1) ** 2 < 1, -850, hu)
    return (hu + np.random.default_rng(0).normal(0, 15, SHAPE)).astype(np.int16)


def inspected(volume: Volume, contract: Contract = CONTRACT, allow: tuple[str, ...] = ()) -> dict[str, QCFlag]:
    found = QualityChecker(contract, allow).flags(Path("scan"), volume, preprocess(volume, contract))
    assert len({flag.code for flag in found}) == len(found), "each code once"
    return {flag.code: flag for flag in found}


def worst(found: dict[str, QCFlag]) -> dict[str, Severity]:
    return {code: flag.severity for code, flag in found.items() if flag.severity != "ok"}


def test_a_chest_passes_every_check(chest: Chest) -> None:
    found = inspected(Volume(chest, affine=AFFINE))
    assert worst(found) == {}
    assert list(found) == [
        "orientation", "oblique", "gantry_tilt", "spacing", "fov_extent", "too_few_slices",
        "intensity_out_of_range", "intensity_inverted", "intensity_not_hu", "anatomy_mismatch", "slice_order",
        "outlier_slices", "interleaved_slices",
    ]  # fmt: skip
    assert (found["orientation"].value, found["spacing"].value) == ("LAS", "5 x 5 x 9")
    assert (found["fov_extent"].value, found["too_few_slices"].value) == (288.0, 32)
    assert found["intensity_inverted"].value == pytest.approx(-1000, abs=5)
    like_lung = float(((chest > -960) & (chest < -500)).mean() / (chest > -960).mean())
    assert found["anatomy_mismatch"].value == pytest.approx(0.7 * like_lung, rel=0.1), "less the edge"


CONTENT: dict[str, tuple[Callable[[Chest], NDArray[np.generic]], dict[str, Severity]]] = {
    "intercept forgotten": (lambda hu: hu + 1024, {"intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"}),
    "intercept applied twice": (lambda hu: hu - 1024, {"intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"}),
    "scaled to 0..1": (
        lambda hu: ((hu + 1000) / 1400).astype(np.float32),
        {"intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"},
    ),
    "scaled to 0..255": (
        lambda hu: np.clip((hu + 1000) / 1400 * 255, 0, 255).astype(np.uint8),
        {"intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"},
    ),
    "negative": (
        np.negative,
        {"intensity_inverted": "refuse", "intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"},
    ),
    "inverted in its range": (
        lambda hu: 3071 - (hu + 1024),
        {"intensity_inverted": "refuse", "intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"},
    ),
    "huge values": (
        lambda hu: np.where(hu > 90, 1_000_000_000, hu).astype(np.float32),
        {"intensity_out_of_range": "warn"},
    ),
    "water": (lambda hu: np.where(hu < -500, -1000, 0), {"anatomy_mismatch": "refuse"}),
    "noise": (
        lambda hu: np.random.default_rng(1).integers(-1000, 400, hu.shape),
        {"anatomy_mismatch": "refuse"},
    ),
    "noisy air": (
        lambda hu: np.random.default_rng(1).normal(-1000, 40, hu.shape).astype(np.int16),
        {"intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"},
    ),
    "air": (lambda hu: np.full(hu.shape, -1000), {"intensity_not_hu": "refuse", "anatomy_mismatch": "refuse"}),
}


@pytest.mark.parametrize(("change", "expected"), CONTENT.values(), ids=CONTENT)
def test_voxels_that_are_no_chest_in_hu_are_found(
    chest: Chest, change: Callable[[Chest], NDArray[np.generic]], expected: dict[str, Severity]
) -> None:
    assert worst(inspected(Volume(change(chest), affine=AFFINE))) == expected


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_padding_below_air_is_as_good_as_air(chest: Chest, slope: float) -> None:
    stored = np.where(chest < -900, -3024, chest) / slope
    found = inspected(Volume(stored.astype(np.int16), slope, affine=AFFINE))
    assert worst(found) == {}
    assert str(found["intensity_out_of_range"].value).startswith("-3024 to ")


def test_a_sphere_in_a_shell_of_bone_is_no_chest() -> None:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    head: NDArray[np.int_] = np.where(radius < 0.8, 900, -1000)
    head = np.where(radius < 0.72, 35, head)
    head = np.where(x**2 + (y - 0.5) ** 2 + z**2 < 0.02, -1000, head)
    assert worst(inspected(Volume(head.astype(np.int16), affine=AFFINE))) == {"anatomy_mismatch": "refuse"}


def test_little_lung_is_a_warning(chest: Chest) -> None:
    across, z = np.meshgrid(np.linspace(-1, 1, 64), np.arange(32), indexing="ij")
    belly = (z < 20 - 8 * across**2)[:, None, :] & (chest > -900)  # the lower part, below a dome
    # Denser than the top, or the last slice would continue in the first.
    found = inspected(Volume(np.where(belly, np.int16(100), chest), affine=AFFINE))
    assert worst(found) == {"anatomy_mismatch": "warn"}
    assert 0.03 < float(str(found["anatomy_mismatch"].value)) < 0.08


def lung_like_one_by_one(hu: NDArray[np.float32]) -> tuple[float, float]:
    """`lung_fraction`, voxel by voxel."""
    lung, body = 0, 0
    wide, tall, _ = hu.shape
    for i, j, k in np.ndindex(hu.shape):
        body += int(hu[i, j, k] > -300)
        around = [(i, j), (i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        lung += all(-960 < hu[a, b, k] < -500 for a, b in around if 0 <= a < wide and 0 <= b < tall)
    return lung / max(lung + body, hu.size / 10), lung / hu.size


def test_lung_is_counted_as_an_obvious_loop_counts_it(chest: Chest) -> None:
    small = chest[::3, ::4, ::6].astype(np.float32)
    assert lung_fraction(small) == pytest.approx(lung_like_one_by_one(small))
    assert lung_fraction(small)[0] > 0.05


GEOMETRY: dict[str, tuple[NDArray[np.float64], dict[str, Severity]]] = {
    "the thickest slices, from metres in float32": (
        AFFINE @ np.diag([1, 1, float(np.float32(0.012)) * 1e3 / 9, 1]),
        {},
    ),
    "metres": (AFFINE @ np.diag([1e-3, 1e-3, 1e-3, 1]), {"spacing": "warn", "fov_extent": "warn"}),
    "micrometres": (AFFINE @ np.diag([1e3, 1e3, 1e3, 1]), {"spacing": "warn", "fov_extent": "warn"}),
    "thick slices": (AFFINE @ np.diag([1, 1, 1.5, 1]), {"spacing": "warn"}),
    "half a chest": (AFFINE @ np.diag([1, 1, 0.25, 1]), {"fov_extent": "warn"}),
    "a whole body": (AFFINE @ np.diag([1, 1, 2.5, 1]), {"spacing": "warn", "fov_extent": "warn"}),
}


@pytest.mark.parametrize(("affine", "expected"), GEOMETRY.values(), ids=GEOMETRY)
def test_sizes_that_no_chest_has_are_found(
    chest: Chest, affine: NDArray[np.float64], expected: dict[str, Severity]
) -> None:
    assert worst(inspected(Volume(chest, affine=affine))) == expected


@pytest.mark.parametrize(("slices", "severity"), [(7, "refuse"), (8, "warn"), (11, "warn"), (12, "ok")])
def test_slices_are_counted(chest: Chest, slices: int, severity: Severity) -> None:
    found = inspected(Volume(chest[:, :, :slices], affine=AFFINE))
    assert (found["too_few_slices"].severity, found["too_few_slices"].value) == (severity, slices)


def test_length_is_measured_along_the_body_however_the_array_lies(chest: Chest) -> None:
    turned = np.zeros((4, 4))
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = 9, -5, 5, 1
    found = inspected(Volume(chest.transpose(2, 0, 1), affine=turned))
    assert worst(found) == {}
    assert (found["orientation"].value, found["fov_extent"].value) == ("SLA", 288.0)


def test_an_oblique_scan_is_measured(chest: Chest) -> None:
    cos, sin = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
    turn = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
    found = inspected(Volume(chest, affine=turn @ AFFINE))
    assert worst(found) == {"oblique": "warn"}
    assert "12.0 degrees" in found["oblique"].detail


def test_without_an_orientation_there_is_nothing_to_measure(chest: Chest) -> None:
    found = inspected(Volume(chest))
    assert worst(found) == {"no_orientation": "refuse"}
    assert "fov_extent" not in found


def test_a_window_that_hides_lung_leaves_it_unjudged(chest: Chest) -> None:
    contract = Contract(shape=(64, 64, 16), hu_window=(-160.0, 240.0))
    assert {"intensity_not_hu", "intensity_inverted", "anatomy_mismatch"}.isdisjoint(
        inspected(Volume(chest, affine=AFFINE), contract)
    )


def test_a_network_input_too_coarse_for_lungs_leaves_them_unjudged(chest: Chest) -> None:
    found = inspected(Volume(chest, affine=AFFINE), Contract(shape=(16, 16, 8)))
    assert "anatomy_mismatch" not in found
    assert "intensity_not_hu" in found


def test_the_same_numbers_twice_are_found_and_other_runs_are_not_meant(chest: Chest) -> None:
    volume = Volume(chest, affine=AFFINE)
    prepared = preprocess(volume, CONTRACT)
    checker = QualityChecker(CONTRACT)
    for path, expected in (("a", []), ("b", ["a"]), ("a", [])):
        found = checker.flag_repeated(path, input_sha256(prepared))
        assert [(flag.code, flag.value) for flag in found] == [("duplicate", first) for first in expected]
    assert "duplicate" not in inspected(volume)


def test_allowing_lowers_each_kind_by_one_step(chest: Chest) -> None:
    volume = Volume((chest - 1024)[:, :, :9], affine=AFFINE @ np.diag([1, 1, 1.5, 1]))
    assert worst(inspected(volume)) == {
        "spacing": "warn", "too_few_slices": "warn", "intensity_not_hu": "refuse", "anatomy_mismatch": "refuse",
    }  # fmt: skip
    allowed = inspected(volume, allow=("spacing", "too_few_slices", "intensity_not_hu"))
    assert worst(allowed) == {"intensity_not_hu": "warn", "anatomy_mismatch": "refuse"}


def test_codes_to_allow_are_checked() -> None:
    assert require_downgradable(["anatomy_mismatch", "gantry_tilt"]) == {"anatomy_mismatch", "gantry_tilt"}
    with pytest.raises(UsageError, match=r"no check nonsense.*anatomy_mismatch"):
        require_downgradable(["nonsense"])
    with pytest.raises(UsageError, match="truncated cannot be downgraded"):
        require_downgradable(["truncated"])


def test_every_code_stands_in_the_table_once() -> None:
    codes = [rule.code for rule in CHECKS]
    assert len(set(codes)) == len(codes)
    source = Path(__file__).parents[2] / "ct3d_edge"
    used = set()
    for path in [*source.rglob("scan/**/*.py"), *source.rglob("quality_control/*.py"), source / "preprocessing.py"]:
        used |= set(_codes_in(path.read_text()))
    assert used <= set(codes)
    assert len(used) > 40


def _codes_in(source: str) -> list[str]:
    """First arguments of everything that is raised or noted with a code."""
    return re.findall(r'(?:UnreadableScanError|RefusedScanError|QCFlag)\(\s*"([a-z0-9_]+)"', source)


def test_the_documented_table_is_the_one_in_the_code() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()
    rows = [f"| `{rule.code}` | {rule.action} | {rule.meaning} |" for rule in CHECKS]
    assert [row for row in rows if row not in docs] == []
