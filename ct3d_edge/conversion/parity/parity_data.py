"""Volumes for the parity check and for calibration: scans that the user names, phantoms where there are too few."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity.parity_report import MIN_PARITY_VOLUMES
from ct3d_edge.datasets.phantoms.phantom import las_affine, make_phantom
from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import content_sha256, open_scan
from ct3d_edge.scan.volume import Volume

PHANTOM_SHAPE = (128, 128, 32)
PHANTOM_SEED = 20_000
"""Different from the seeds of phantoms for training."""
CALIBRATION_SEED = 30_000
"""Different from the seeds of the parity check."""
CALIBRATION_PHANTOMS = 8

MIN_CALIBRATION_VOLUMES = 4
"""Fewer do not show the range of the values."""

FUSED_IO_SHAPES_AND_SCALINGS = (
    ((128, 128, 32), 1.0, -1024.0),
    ((160, 120, 150), 0.7, -1000.3),
    ((96, 132, 64), 2.0, 24.0),
    ((128, 128, 128), -1.0, 0.0),
)
"""Shape, slope and intercept (``HU = stored * slope + intercept``) of scans for the check of preprocessing inside a
file: fewer slices than the network takes, more than twice as many, and slices that are not square."""


@dataclass(frozen=True, eq=False)
class ParityDataset:
    """Volumes of a parity check.

    Parameters
    ----------
    volumes
        At least eight network inputs, each ``contract.shape`` float32; consumed one at a time.
    description
        Description of the volumes for the provenance.
    scans
        How many of them are real scans; None if that is not known.
    limit
        Largest difference of a probability that passes; that of the precision if None.
    truth
        0 or 1 for each volume, where both classes are known.
    """

    volumes: Iterable[NDArray[np.float32]]
    description: str
    scans: int | None = None
    limit: float | None = None
    truth: Sequence[int] | None = None


@dataclass(frozen=True)
class NetworkInputs:
    """Network inputs of scans and phantoms, computed again at each iteration, one at a time.

    Parameters
    ----------
    scans
        Scans, which come first.
    seeds
        Seeds of the phantoms; odd ones are abnormal.
    contract
        Contract of the network.
    purpose
        Word for messages: ``"parity check"`` or ``"calibration"``.
    """

    scans: tuple[Path, ...]
    seeds: range
    contract: Contract
    purpose: str

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield each network input.

        Raises
        ------
        UsageError
            At a scan that cannot be used.
        """
        for scan in self.scans:
            try:
                yield preprocess(open_scan(scan), self.contract).volume
            except ScanError as error:
                raise UsageError(f"The {self.purpose} cannot use {scan} ({error.code}): {error}") from error
        for seed in self.seeds:
            phantom = make_phantom(seed, abnormal=seed % 2 == 1, shape=PHANTOM_SHAPE)
            affine = las_affine(phantom.hu.shape, phantom.spacing)
            yield preprocess(Volume(phantom.hu, affine=affine), self.contract).volume

    @property
    def truth(self) -> list[int] | None:
        """Class of each scan, by the name of its folder, and of each phantom; None if one is not known."""
        labels = self.contract.labels
        if len(labels) != 2 or any(scan.parent.name not in labels for scan in self.scans):
            return None
        return [labels.index(scan.parent.name) for scan in self.scans] + [seed % 2 for seed in self.seeds]


def load_parity_dataset(folder: Path | None, contract: Contract, atol: float | None = None) -> ParityDataset:
    """Scans of a folder for the parity check, and phantoms up to eight volumes; only phantoms without a folder."""
    scans = _find_scans(folder)
    phantoms = max(0, MIN_PARITY_VOLUMES - len(scans))
    parts = [f"{plural(len(scans), 'scan')} from {folder}"] if scans else []
    parts += [f"{plural(phantoms, 'phantom')} from seed {PHANTOM_SEED}"] if phantoms else []
    volumes = NetworkInputs(scans, range(PHANTOM_SEED, PHANTOM_SEED + phantoms), contract, "parity check")
    return ParityDataset(volumes, " and ".join(parts), len(scans), atol, volumes.truth)


def volume_sha256(volume: NDArray[np.float32]) -> str:
    """SHA-256 of a network input: the same for a scan under another name or in another file format."""
    return hashlib.sha256(np.ascontiguousarray(volume).tobytes()).hexdigest()


@dataclass(eq=False)
class CalibrationData:
    """Network inputs to calibrate on, computed again at each iteration, one at a time.

    Parameters
    ----------
    volumes
        Each ``contract.shape`` float32; can be iterated more than once.
    description
        Description of the volumes for the provenance.
    digests
        SHA-256 of the volumes that were used, filled while they are iterated.
    """

    volumes: Iterable[NDArray[np.float32]]
    description: str
    digests: dict[str, None] = field(default_factory=dict)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the volumes.

        Raises
        ------
        UsageError
            At the end, if there were fewer than four.
        """
        for volume in self.volumes:
            self.digests[volume_sha256(volume)] = None
            yield volume
        count = len(self.digests)
        if count < MIN_CALIBRATION_VOLUMES:
            raise UsageError(
                f"Calibration needs at least {MIN_CALIBRATION_VOLUMES} different volumes, found {count} "
                f"({self.description})."
            )

    def check_disjoint(self, volumes: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yield the volumes of a parity check; raise at the first one that was calibrated on.

        Raises
        ------
        UsageError
            At a volume that is calibration data too.
        """
        for number, volume in enumerate(volumes, 1):
            if volume_sha256(volume) in self.digests:
                raise UsageError(
                    f"Volume {number} of the parity check is calibration data too ({self.description}): a check on it "
                    "says little. Name other scans with `calibration_data=` or `parity_data=`."
                )
            yield volume

    def to_dict(self) -> dict[str, object]:
        """Plain data for the provenance; the hash is that of all network inputs."""
        whole = hashlib.sha256("\n".join(self.digests).encode()).hexdigest()
        return {"volumes": len(self.digests), "material": self.description, "sha256": whole}


def load_calibration_data(folder: Path | None, parity_folder: Path | None, contract: Contract) -> CalibrationData:
    """Volumes on which a lower precision is calibrated: scans of a folder, or phantoms.

    Raises
    ------
    UsageError
        There are fewer than four different scans, or one is in the parity check, too.
    """
    if folder is None:
        seeds = range(CALIBRATION_SEED, CALIBRATION_SEED + CALIBRATION_PHANTOMS)
        volumes = NetworkInputs((), seeds, contract, "calibration")
        return CalibrationData(volumes, f"{plural(len(seeds), 'phantom')} from seed {CALIBRATION_SEED}")
    scans = {scan: content_sha256(scan) for scan in _find_scans(folder)}
    _require_enough(scans, folder)
    _require_disjoint(scans, _find_scans(parity_folder))
    volumes = NetworkInputs(tuple(scans), range(0), contract, "calibration")
    return CalibrationData(volumes, f"{plural(len(scans), 'scan')} from {folder}")


def _find_scans(folder: Path | None) -> tuple[Path, ...]:
    return tuple(find_scans([folder])) if folder else ()


def _require_enough(scans: Mapping[Path, str], folder: Path) -> None:
    """Stop before anything is converted; the hashes are those of files."""
    count = len(set(scans.values()))
    if count < MIN_CALIBRATION_VOLUMES:
        copies = f" and {plural(len(scans) - count, 'copy', 'copies')}" if count < len(scans) else ""
        raise UsageError(
            f"Calibration needs at least {MIN_CALIBRATION_VOLUMES} different scans: fewer do not show the range of the "
            f"values. {folder} has {count}{copies}. Add scans, or leave out `calibration_data=` to use phantoms."
        )


def _require_disjoint(calibrated: Mapping[Path, str], checked: tuple[Path, ...]) -> None:
    known = {content_sha256(scan): scan for scan in checked}
    for scan, digest in calibrated.items():
        twin = known.get(digest)
        if twin is not None:
            raise UsageError(
                f"{scan} is calibration data, and {twin}, which has the same content, parity data: a parity check on "
                "calibration data says little. Name other scans for one of them."
            )


@dataclass(frozen=True)
class PhantomScans:
    """Eight phantoms as stored voxels, in the contract's orientation; generated again at each iteration."""

    contract: Contract

    def __iter__(self) -> Iterator[Volume]:
        """Yield each scan."""
        for index, (shape, slope, intercept) in enumerate(FUSED_IO_SHAPES_AND_SCALINGS):
            for abnormal in (False, True):
                phantom = make_phantom(PHANTOM_SEED + 100 + index, abnormal=abnormal, shape=shape)
                stored = np.rint((phantom.hu - intercept) / slope).astype(np.int16)
                affine = las_affine(stored.shape, phantom.spacing)
                stored, turned = _reorient(stored, affine, self.contract.orientation)
                yield Volume(stored, slope, intercept, turned)


def _reorient(
    stored: NDArray[np.int16], affine: NDArray[np.float64], orientation: str
) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
    """A ``LAS`` array and its affine in another orientation; no affine for ``"stored"``."""
    if orientation == "stored":
        return stored, None
    turn = orientations.ornt_transform(orientations.axcodes2ornt("LAS"), orientations.axcodes2ornt(orientation))
    return orientations.apply_orientation(stored, turn), affine @ orientations.inv_ornt_aff(turn, stored.shape)
