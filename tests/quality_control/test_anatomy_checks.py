"""How a chest lies: every orientation of a phantom, parts of it, and what is no chest."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from numpy.typing import NDArray
from products import each_value

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.fields import as_field, value_noise
from ct3d_edge.datasets.phantoms.phantom import build_scene, las_affine, make_phantom
from ct3d_edge.datasets.phantoms.scanner import render
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.anatomy_checks import (
    MIN_TABLE,
    count_table_pixels,
    has_table_in_front,
    orientation_contradiction,
    view_body_axes,
)
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Volume

CONTRACT = Contract()
CODES = [
    "".join(letters) for axes in itertools.permutations(("LR", "AP", "SI")) for letters in itertools.product(*axes)
]


def chest(seed: int = 0) -> Volume:
    phantom = make_phantom(seed, abnormal=False, shape=(160, 160, 40))
    hu: NDArray[np.int16] = phantom.hu
    return declared(Volume(hu), "LAS", phantom.spacing)


def declared(volume: Volume, code: str, spacing: tuple[float, float, float] = (2.2, 2.2, 8.0)) -> Volume:
    """The same voxels, whose file says that they lie so."""
    scale = np.diag([*spacing, 1.0])
    return Volume(volume.stored, affine=inv_ornt_aff(axcodes2ornt(code), volume.shape) @ scale)


def told(volume: Volume, contract: Contract = CONTRACT) -> str | None:
    view = view_body_axes(preprocess(volume, contract).volume, contract)
    return None if view is None else orientation_contradiction(view)


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return chest()


@pytest.mark.parametrize("code", ["RAS", *CODES[::5]])
def test_a_wrong_orientation_is_told_but_for_left_and_right(phantom: Volume, code: str) -> None:
    said = told(declared(phantom, code))
    assert (said is None) == (code in ("LAS", "RAS")), "a chest is nearly symmetric"


@pytest.mark.parametrize(("quarters", "orientation"), each_value([0, 1, 2, 3], ["LAS", "RAS", "LPS", "SAL"]))
def test_the_contract_s_own_orientation_changes_nothing(phantom: Volume, orientation: str, quarters: int) -> None:
    contract = Contract(shape=(128, 128, 128), orientation=orientation, quarter_turns=quarters)
    assert told(phantom, contract) is None
    assert told(declared(phantom, "LPS"), contract) is not None


@pytest.mark.parametrize(
    "contract",
    [Contract(shape=(32, 32, 32)), Contract(shape=(64, 64, 16)), Contract(orientation="stored"),
     Contract(hu_window=(-160.0, 240.0))],
    ids=["coarse slices", "few slices", "as stored", "a window without lung"],
)  # fmt: skip
def test_where_nothing_can_be_seen_nothing_is_said(phantom: Volume, contract: Contract) -> None:
    assert told(declared(phantom, "LPS"), contract) is None


@pytest.mark.parametrize("part", [np.s_[:, :, :16], np.s_[:, :, 24:], np.s_[:80], np.s_[40:120, 40:120]])
def test_a_part_of_a_chest_is_not_refused(phantom: Volume, part: tuple[slice, ...]) -> None:
    assert told(declared(Volume(phantom.stored[part]), "LAS")) is None


def test_the_quality_report_refuses_an_array_saved_with_its_axes_reversed(phantom: Volume) -> None:
    """What SimpleITK gives, (z, y, x), saved by nibabel with the identity."""
    volume = Volume(np.ascontiguousarray(phantom.stored.transpose(2, 1, 0)), affine=np.eye(4))
    found = flags(volume)
    assert found["orientation_mismatch"].severity == "refuse"
    assert "are separated along" in found["orientation_mismatch"].detail
    assert found["default_affine"].severity == "warn"


def flags(volume: Volume) -> dict[str, QCFlag]:
    found = QualityChecker(CONTRACT).flags(Path("scan"), volume, preprocess(volume, CONTRACT))
    return {flag.code: flag for flag in found}


def test_much_gas_in_the_gut_is_no_trachea() -> None:
    """Phantom 27 of seed 4711: gas beside the lower two fifths of the lungs, little air in the trachea."""
    seed = int(np.random.SeedSequence([4711, 27]).generate_state(1, np.uint64)[0])
    phantom = make_phantom(seed, abnormal=True, shape=(256, 256, 40))
    volume = Volume(phantom.hu)
    assert told(declared(volume, "LAS", phantom.spacing)) is None
    assert told(declared(volume, "LPS", phantom.spacing)) is not None


@pytest.mark.parametrize("part", [np.s_[:80], np.s_[80:]], ids=["right", "left"])
def test_a_part_of_a_chest_before_its_table_is_flagged(phantom: Volume, part: tuple[slice, ...]) -> None:
    """A prone patient lies so, too: no reason to refuse the scan."""
    for code, expected in (("LAS", []), ("LPS", ["warn"])):
        found = flags(declared(Volume(phantom.stored[part]), code))
        mismatch = [flag.severity for key, flag in found.items() if key == "orientation_mismatch"]
        assert mismatch == expected, code


@pytest.mark.parametrize(("code", "in_front"), [("LAS", False), ("RAI", False), ("LPS", True), ("RPI", True)])
def test_the_table_of_a_phantom_is_seen_on_one_side(phantom: Volume, code: str, in_front: bool) -> None:
    view = view_body_axes(preprocess(declared(phantom, code), CONTRACT).volume, CONTRACT)
    assert view is not None
    behind, before = count_table_pixels(view)
    assert (behind >= MIN_TABLE, before >= MIN_TABLE) == (not in_front, in_front)
    assert has_table_in_front(view) == in_front


@pytest.mark.slow
def test_fresh_phantoms_are_never_refused_and_exchanged_axes_always() -> None:
    """Other seeds than those the limits were found on."""
    for seed in range(100, 112):
        volume = chest(seed)
        assert told(volume) is None, seed
        for code in ("SAL", "ASL", "LSA", "LPS"):
            assert told(declared(volume, code)) is not None, (seed, code)


@pytest.mark.slow
def test_real_chests_pass_and_their_wrong_orientations_are_told(real_scans: Path) -> None:
    for path in sorted((real_scans / "chest").glob("*.nii.gz")):
        scan = read_nifti(path)
        stored = Volume(scan.stored, scan.slope, scan.intercept, scan.affine)
        assert told(stored) is None, path.name
        wrong = {code: told(declared(Volume(scan.stored * scan.slope + scan.intercept), code)) for code in CODES}
        missed = [code for code, said in wrong.items() if said is None]
        assert len(missed) <= 8, (path.name, missed)


@pytest.mark.parametrize("lung", [-850, -880, -930])
def test_a_chest_drawn_with_three_values_is_not_refused(lung: int) -> None:
    """The array of docs/library.md; lung of one value, emphysema's too, is no trachea."""
    hu = np.full((64, 64, 32), -1000, np.int16)
    hu[8:56, 12:52] = 40
    hu[14:28, 20:44, 4:28] = hu[36:50, 20:44, 4:28] = lung
    assert {flag.severity for flag in flags(Volume(hu, affine=np.diag([-2.0, 2.0, 5.0, 1.0]))).values()} <= {
        "ok",
        "warn",
    }


EMPHYSEMA = [(-880, 0.0), (-880, 0.3), (-910, 0.4), (-930, 0.5)]
"""Mean HU of the lungs, and the part of them that is destroyed (-985 HU)."""


def chest_with_emphysema(seed: int, mean: int, destroyed: float) -> Volume:
    """A phantom whose lung tissue has this mean; the patient and the scanner's noise are those of the seed."""
    scene = build_scene(seed, abnormal=False, shape=(192, 192, 40))
    inside = scene.chest.inside_lung
    lung = scene.lung_hu - scene.lung_hu[inside].mean() + mean
    holes = value_noise(np.random.default_rng(seed), scene.grid, 11.0)
    if destroyed:
        lung = np.where(holes > np.quantile(holes[inside], 1 - destroyed), np.minimum(lung, -985), lung)
    hu = render(replace(scene, lung_hu=as_field(lung)), np.random.default_rng(seed))[0].T
    return Volume(hu, affine=las_affine(hu.shape, scene.grid.spacing))


def refused(volume: Volume) -> list[str]:
    return [code for code, flag in flags(volume).items() if flag.severity == "refuse"]


@pytest.mark.parametrize(("mean", "destroyed"), EMPHYSEMA)
def test_a_phantom_with_emphysema_is_a_chest(mean: int, destroyed: float) -> None:
    assert refused(chest_with_emphysema(7000, mean, destroyed)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "destroyed"), EMPHYSEMA)
def test_no_phantom_with_emphysema_is_refused(mean: int, destroyed: float) -> None:
    """The shares that docs/inputs.md gives; ``pytest -s`` prints them."""
    found = [flags(chest_with_emphysema(seed, mean, destroyed)) for seed in range(7000, 7020)]
    shares = [float(each["anatomy_mismatch"].value) for each in found]  # type: ignore[arg-type]
    warned = sum(each["anatomy_mismatch"].severity == "warn" for each in found)
    print(f"\n{mean} HU, {destroyed:.0%} destroyed: {min(shares):.1%} to {max(shares):.1%}, warned {warned}")
    assert [code for each in found for code, flag in each.items() if flag.severity == "refuse"] == []


@pytest.mark.slow
@pytest.mark.parametrize("mean", [-880, -930])
def test_real_chests_whose_lungs_are_lowered_to_emphysema_are_not_refused(real_scans: Path, mean: int) -> None:
    for path in sorted((real_scans / "chest").glob("*.nii.gz")):
        scan = read_nifti(path)
        hu = scan.stored * np.float32(scan.slope) + np.float32(scan.intercept)
        lung = (hu > -960) & (hu < -500)
        hu[lung] = np.maximum(hu[lung] + mean - hu[lung].mean(), -1000)
        volume = Volume(hu, affine=scan.affine)
        share = flags(volume)["anatomy_mismatch"]
        print(f"\n{mean} HU, a real chest of {hu.shape}: {share.value:.1%}")
        assert refused(volume) == []
