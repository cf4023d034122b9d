"""What a file is proven on: scans that the user names, phantoms where there are too few."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.errors import ScanError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.contract import Contract
    from ct3d_edge.scan import Volume

PHANTOM_SHAPE = (128, 128, 32)
PHANTOM_SEED = 20_000
"""Far from the seeds that models are trained on."""

SIZES_AND_SCALINGS = (
    ((128, 128, 32), 1.0, -1024.0),
    ((160, 120, 150), 0.7, -1000.3),
    ((96, 132, 64), 2.0, 24.0),
    ((128, 128, 128), -1.0, 0.0),
)
"""Scans that preprocessing inside a file is proven on: fewer slices than the network takes, more than twice as many,
slices that are not square; and ``HU = stored * slope + intercept``."""

ProofOption = Annotated[
    Path | None,
    typer.Option(help="Scans to prove the file on; phantoms fill up to eight, or serve alone."),
]
LimitOption = Annotated[
    float, typer.Option(min=0, max=0.01, help="Largest difference of a probability that the proof allows.")
]


def proof_volumes(folder: Path | None, contract: "Contract") -> tuple[str, "Iterator[NDArray[np.float32]]"]:
    """What the proof runs on, in words, and the network inputs, made one at a time."""
    from ct3d_edge.conversion import MINIMUM_VOLUMES
    from ct3d_edge.scan import find_scans

    scans = find_scans([folder]) if folder else []
    phantoms = max(0, MINIMUM_VOLUMES - len(scans))
    parts = [f"{len(scans)} scans from {folder}"] if scans else []
    parts += [f"{phantoms} phantoms from seed {PHANTOM_SEED}"] if phantoms else []
    return " and ".join(parts), _volumes(scans, phantoms, contract)


def _volumes(scans: list[Path], phantoms: int, contract: "Contract") -> "Iterator[NDArray[np.float32]]":
    from ct3d_edge.datasets import las_affine, make_phantom
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.scan import Volume, open_scan

    for scan in scans:
        try:
            yield preprocess(open_scan(scan), contract).volume
        except ScanError as error:
            raise UsageError(f"The proof cannot use {scan} ({error.code}): {error}") from error
    for index in range(phantoms):
        phantom = make_phantom(PHANTOM_SEED + index, abnormal=index % 2 == 1, shape=PHANTOM_SHAPE)
        volume = Volume(phantom.hu, affine=las_affine(phantom.hu.shape, phantom.spacing))
        yield preprocess(volume, contract).volume


def embedding_scans(contract: "Contract") -> "Iterator[Volume]":
    """Eight phantoms as scanners store them, in the contract's orientation, made one at a time."""
    from ct3d_edge.datasets import make_phantom

    for index, (shape, slope, intercept) in enumerate(SIZES_AND_SCALINGS):
        for abnormal in (False, True):
            phantom = make_phantom(PHANTOM_SEED + 100 + index, abnormal=abnormal, shape=shape)
            yield _stored(phantom.hu, phantom.spacing, slope, intercept, contract.orientation)


def _stored(
    hu: "NDArray[np.int16]", spacing: tuple[float, float, float], slope: float, intercept: float, orientation: str
) -> "Volume":
    """A phantom turned to an orientation, its HU as stored integers."""
    import numpy as np
    from nibabel import orientations

    from ct3d_edge.datasets import las_affine
    from ct3d_edge.scan import Volume

    stored = np.rint((hu - intercept) / slope).astype(np.int16)
    if orientation == "stored":
        return Volume(stored, slope, intercept)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("LAS"), orientations.axcodes2ornt(orientation))
    affine = las_affine(hu.shape, spacing) @ orientations.inv_ornt_aff(turn, hu.shape)
    return Volume(orientations.apply_orientation(stored, turn), slope, intercept, affine)
