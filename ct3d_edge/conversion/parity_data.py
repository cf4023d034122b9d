"""Volumes for the parity check and for calibration: scans that the user names, phantoms where there are too few."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.providers.names import PROVIDERS, ProviderName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.contract import Contract
    from ct3d_edge.conversion.precision.calibration_data import CalibrationData
    from ct3d_edge.scan.volume import Volume

PHANTOM_SHAPE = (128, 128, 32)
PHANTOM_SEED = 20_000
"""Far from the seeds that models are trained on."""
CALIBRATION_SEED = 30_000
"""Far from those that files are checked on."""
CALIBRATION_PHANTOMS = 8

FUSED_IO_SHAPES_AND_SCALINGS = (
    ((128, 128, 32), 1.0, -1024.0),
    ((160, 120, 150), 0.7, -1000.3),
    ((96, 132, 64), 2.0, 24.0),
    ((128, 128, 128), -1.0, 0.0),
)
"""Scans that preprocessing inside a file is checked on: fewer slices than the network takes, more than twice as many,
slices that are not square; and ``HU = stored * slope + intercept``."""


@dataclass(frozen=True)
class ParityVolumes:
    """Network inputs of scans and phantoms, made anew each time, one at a time.

    Parameters
    ----------
    scans
        Come first.
    seeds
        Of the phantoms; every other one is abnormal.
    contract
        What the network expects.
    purpose
        For messages: ``"parity check"`` or ``"calibration"``.
    """

    scans: tuple[Path, ...]
    seeds: range
    contract: "Contract"
    purpose: str

    def __iter__(self) -> "Iterator[NDArray[np.float32]]":
        """Yield each network input.

        Raises
        ------
        UsageError
            At a scan that cannot be used.
        """
        from ct3d_edge.preprocessing import preprocess
        from ct3d_edge.scan.loader import open_scan

        for scan in self.scans:
            try:
                yield preprocess(open_scan(scan), self.contract).volume
            except ScanError as error:
                raise UsageError(f"The {self.purpose} cannot use {scan} ({error.code}): {error}") from error
        for seed in self.seeds:
            yield _make_phantom_input(seed, self.contract)

    @property
    def truth(self) -> list[int] | None:
        """Class of each volume by its folder's name, and of each phantom; None if one is not known."""
        labels = self.contract.labels
        if len(labels) != 2 or any(scan.parent.name not in labels for scan in self.scans):
            return None
        return [labels.index(scan.parent.name) for scan in self.scans] + [seed % 2 for seed in self.seeds]


def load_parity_volumes(folder: Path | None, contract: "Contract") -> tuple[str, ParityVolumes]:
    """What the parity check runs on, in words, and the network inputs."""
    from ct3d_edge.conversion.parity import MIN_PARITY_VOLUMES

    scans = _find_scans(folder)
    phantoms = max(0, MIN_PARITY_VOLUMES - len(scans))
    parts = [f"{plural(len(scans), 'scan')} from {folder}"] if scans else []
    parts += [f"{plural(phantoms, 'phantom')} from seed {PHANTOM_SEED}"] if phantoms else []
    seeds = range(PHANTOM_SEED, PHANTOM_SEED + phantoms)
    return " and ".join(parts), ParityVolumes(scans, seeds, contract, "parity check")


def load_calibration_volumes(folder: Path | None, parity: Path | None, contract: "Contract") -> "CalibrationData":
    """What a lower precision is calibrated on.

    Raises
    ------
    UsageError
        If a scan is in the parity check, too.
    """
    from ct3d_edge.conversion.precision.calibration_data import CalibrationData

    if folder is None:
        seeds = range(CALIBRATION_SEED, CALIBRATION_SEED + CALIBRATION_PHANTOMS)
        volumes = ParityVolumes((), seeds, contract, "calibration")
        return CalibrationData(volumes, f"{plural(len(seeds), 'phantom')} from seed {CALIBRATION_SEED}")
    scans = _find_scans(folder)
    _require_disjoint(scans, _find_scans(parity))
    return CalibrationData(
        ParityVolumes(scans, range(0), contract, "calibration"), f"{plural(len(scans), 'scan')} from {folder}"
    )


def find_working_providers() -> tuple[ProviderName, ...]:
    """Providers on which a file is checked: the CPU, and all others that run a tiny network here."""
    from ct3d_edge.doctor.smoke_test_process import check_provider
    from ct3d_edge.providers.availability import find_provider_issue, get_provider

    others = [name for name in PROVIDERS if name != "cpu" and find_provider_issue(get_provider(name)) is None]
    return ("cpu", *(name for name in others if check_provider(name).runs))


def _find_scans(folder: Path | None) -> tuple[Path, ...]:
    from ct3d_edge.scan.discovery import find_scans

    return tuple(find_scans([folder])) if folder else ()


def _require_disjoint(calibrated: tuple[Path, ...], checked: tuple[Path, ...]) -> None:
    from ct3d_edge.scan.fingerprint import content_sha256

    known = {content_sha256(scan): scan for scan in checked}
    for scan in calibrated:
        twin = known.get(content_sha256(scan))
        if twin is not None:
            raise UsageError(
                f"{scan} is to be calibrated on and {twin}, which has the same content, to check the file: "
                "a parity check on what was calibrated on shows little. Keep the two apart."
            )


def _make_phantom_input(seed: int, contract: "Contract") -> "NDArray[np.float32]":
    from ct3d_edge.datasets.phantoms.phantom import las_affine, make_phantom
    from ct3d_edge.preprocessing import preprocess
    from ct3d_edge.scan.volume import Volume

    phantom = make_phantom(seed, abnormal=seed % 2 == 1, shape=PHANTOM_SHAPE)
    return preprocess(Volume(phantom.hu, affine=las_affine(phantom.hu.shape, phantom.spacing)), contract).volume


@dataclass(frozen=True)
class PhantomScans:
    """Eight phantoms as scanners store them, in the contract's orientation, made anew each time, one at a time."""

    contract: "Contract"

    def __iter__(self) -> "Iterator[Volume]":
        """Yield each scan."""
        from ct3d_edge.datasets.phantoms.phantom import make_phantom

        for index, (shape, slope, intercept) in enumerate(FUSED_IO_SHAPES_AND_SCALINGS):
            for abnormal in (False, True):
                phantom = make_phantom(PHANTOM_SEED + 100 + index, abnormal=abnormal, shape=shape)
                yield _store_phantom(phantom.hu, phantom.spacing, slope, intercept, self.contract.orientation)


def _store_phantom(
    hu: "NDArray[np.int16]", spacing: tuple[float, float, float], slope: float, intercept: float, orientation: str
) -> "Volume":
    """A phantom turned to an orientation, its HU as stored integers."""
    import numpy as np
    from nibabel import orientations

    from ct3d_edge.datasets.phantoms.phantom import las_affine
    from ct3d_edge.scan.volume import Volume

    stored = np.rint((hu - intercept) / slope).astype(np.int16)
    if orientation == "stored":
        return Volume(stored, slope, intercept)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("LAS"), orientations.axcodes2ornt(orientation))
    affine = las_affine(hu.shape, spacing) @ orientations.inv_ornt_aff(turn, hu.shape)
    return Volume(orientations.apply_orientation(stored, turn), slope, intercept, affine)
