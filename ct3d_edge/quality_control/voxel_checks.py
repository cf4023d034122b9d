"""Checks of a scan's voxels, measured on the network's input: HU, a chest, slices in their order.

Slices that were stacked by name (1, 10, 11, 2) resemble others more than the ones beside them. In a sound volume slices
grow less alike with distance, so that the nearest one is a neighbour.
"""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import ModelInput, map_axes
from ct3d_edge.quality_control.anatomy_checks import (
    has_table_in_front,
    orientation_contradiction,
    view_body_axes,
)
from ct3d_edge.quality_control.slice_checks import slice_flags
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan

WINDOW = (-1000.0, 150.0)
"""HU that a contract's window must hold for air, lung and soft tissue to be distinguished."""

AIR_BELOW = -800.0
SOFT_TISSUE = (-150.0, 150.0)
MIN_AIR_FRACTION = 0.005
MIN_SOFT_TISSUE_FRACTION = 0.02
"""Fractions of the input. Twelve real chests and parts of chests have 17 % air and 29 % soft tissue at least."""

CORNER_SIZE = 12
"""A corner is this part of a slice's width: outside the body, unless the scan is cut to it."""

BRIGHT_HU = 300.0
"""No body fills all four corners of most slices with bone; air that was turned into its negative does."""

LUNG_HU = (-960.0, -500.0)
"""Lung tissue with its vessels at any breath; air is below, fat and muscle above."""

BODY_ABOVE = -300.0

MIN_BODY_FRACTION = 0.1
"""Part of the volume that a body is taken to fill at least: a few bright voxels in noisy air are none."""

FINEST = 64
"""Slices with fewer pixels a side than this leave no lung after its edge is taken away."""

FEWEST_SLICES = 16
"""Of a scan in which spine, trachea and the order of slices can be followed."""

MAX_NON_CHEST_LUNG = 0.03
LOW_LUNG_FRACTION = 0.08
"""Lung-like part of the body. Measured: docs/inputs.md."""

HU_LIMITS = (-10_000.0, 20_000.0)
"""Padding values and metal lie within; beyond, numbers have overflowed or are no HU."""


def intensity_flags(scan: Scan, prepared: ModelInput, contract: Contract) -> list[QCFlag]:
    """Measured values of every check of the voxels; none where the contract's window hides what they need."""
    low, high = contract.hu_window
    found = [_check_hu_range(prepared.hu_range)]
    if not _shows_tissue(contract):
        return found
    hu = prepared.volume[::2, ::2] * (high - low) + low
    found += [_check_inverted(hu, high), _check_units(hu)]
    if min(contract.shape[:2]) >= FINEST:
        found.append(_check_chest(hu, scan))
    return [*found, *arrangement_flags(scan, prepared, contract)]


def arrangement_flags(scan: Scan, prepared: ModelInput, contract: Contract) -> list[QCFlag]:
    """Those of them that are about how slices lie: in order, of one volume, in the orientation of the file.

    They hold for every scan of a chest, whatever a network is trained to find in it.
    """
    low, high = contract.hu_window
    smallest = min(*contract.shape[:2], sorted(scan.shape)[1])
    if smallest < FINEST or min(scan.shape) < FEWEST_SLICES or not _shows_tissue(contract):
        return []
    found = [_check_slice_order(scan, prepared, contract), *slice_flags(scan, prepared.planes, high - low)]
    return [*found, *_check_orientation(prepared.volume, contract)]


def _shows_tissue(contract: Contract) -> bool:
    return contract.hu_window[0] <= WINDOW[0] and contract.hu_window[1] >= WINDOW[1]


def _check_orientation(volume: NDArray[np.float32], contract: Contract) -> list[QCFlag]:
    view = view_body_axes(volume, contract)
    if view is None:
        return []
    if contradiction := orientation_contradiction(view):
        detail = f"{contradiction} Correct the file's orientation."
        return [QCFlag("orientation_mismatch", "refuse", detail)]
    if has_table_in_front(view):
        detail = "The table lies in front of the patient: a prone patient, or front and back are exchanged."
        return [QCFlag("orientation_mismatch", "warn", detail)]
    return []


def _check_slice_order(scan: Scan, prepared: ModelInput, contract: Contract) -> QCFlag:
    """Slices are looked for along the shortest array axis; of equal ones along the last."""
    stacked = min(range(3), key=lambda axis: (scan.shape[axis], -axis))
    return slice_order_flag(prepared.volume, scan.shape[stacked], map_axes(scan, contract).axes.index(stacked))


def lung_fraction(hu: NDArray[np.float32]) -> tuple[float, float]:
    """How much of a volume looks like lung: voxels in the HU of lung whose neighbours in the slice are, too.

    Air shines through at every skin, as a film of one voxel; asking the neighbours removes it.

    Parameters
    ----------
    hu
        ``(W, H, D)``.

    Returns
    -------
    tuple
        Lung-like fraction of body and lung together, and of the whole volume.
    """
    like = (hu > LUNG_HU[0]) & (hu < LUNG_HU[1])
    inside = like.copy()
    inside[1:] &= like[:-1]
    inside[:-1] &= like[1:]
    inside[:, 1:] &= like[:, :-1]
    inside[:, :-1] &= like[:, 1:]
    body, lung = int(np.count_nonzero(hu > BODY_ABOVE)), int(np.count_nonzero(inside))
    return lung / max(lung + body, MIN_BODY_FRACTION * hu.size), lung / hu.size


def _check_hu_range(hu_range: tuple[float, float]) -> QCFlag:
    low, high = hu_range
    usual = HU_LIMITS[0] <= low and high <= HU_LIMITS[1]
    span = f"{low:.0f} to {high:.0f}"
    return QCFlag("intensity_out_of_range", "ok" if usual else "warn", f"Sampled voxels hold {span} HU.", span)


def _check_inverted(hu: NDArray[np.float32], highest: float) -> QCFlag:
    wide, tall = max(hu.shape[0] // CORNER_SIZE, 1), max(hu.shape[1] // CORNER_SIZE, 1)
    corners = [hu[x, y].ravel() for x in (slice(wide), slice(-wide, None)) for y in (slice(tall), slice(-tall, None))]
    corner = float(np.median(np.concatenate(corners)))
    bright = corner >= min(BRIGHT_HU, highest)
    detail = f"The corners of the slices hold {corner:.0f} HU" + (
        ": air is bright, as in an inverted picture." if bright else "."
    )
    return QCFlag("intensity_inverted", "refuse" if bright else "ok", detail, round(corner))


def _check_units(hu: NDArray[np.float32]) -> QCFlag:
    air = np.count_nonzero(hu < AIR_BELOW) / hu.size
    soft = np.count_nonzero((hu > SOFT_TISSUE[0]) & (hu < SOFT_TISSUE[1])) / hu.size
    plausible = air >= MIN_AIR_FRACTION and soft >= MIN_SOFT_TISSUE_FRACTION
    detail = f"{air:.1%} of the voxels hold air and {soft:.1%} soft tissue" + (
        "." if plausible else ": these are no HU, or there is no body in air."
    )
    return QCFlag("intensity_not_hu", "ok" if plausible else "refuse", detail, f"{air:.3f} {soft:.3f}")


def _check_chest(hu: NDArray[np.float32], scan: Scan) -> QCFlag:
    of_body, of_all = lung_fraction(hu)
    severity = "refuse" if of_body < MAX_NON_CHEST_LUNG else "warn" if of_body < LOW_LUNG_FRACTION else "ok"
    litres = ""
    if scan.spacing is not None:
        litres = f", {of_all * np.prod(scan.shape) * np.prod(scan.spacing) / 1e6:.1f} litres"
    detail = f"{of_body:.1%} of the body looks like lung{litres}."
    return QCFlag("anatomy_mismatch", severity, detail, round(of_body, 4))  # type: ignore[arg-type]


MIN_BREAKS = 4
"""Ends of runs whose continuation lies elsewhere; one slice in a wrong place makes two or three."""

MAX_DISTANCE_RATIO = 0.7
"""Of the distance to the slice beside it, at which the true neighbour of a slice lies at most."""

SYMMETRY_TOLERANCE = 0.02
"""Distance, of the HU window, up to which two slices show the same."""

ROUNDING_TOLERANCE = 1e-4
"""Distance by which slices that are the same may differ after interpolation."""

SAMPLES = 32
"""Rows and columns that are compared at least; with 24 one of 400 phantoms was refused."""


def slice_order_flag(volume: NDArray[np.float32], slices: int, axis: int) -> QCFlag:
    """Compare every slice with all others.

    Parameters
    ----------
    volume
        A network input.
    slices
        How many the scan has along the axis; interpolated ones between them are left out.
    axis
        The network axis along which the scan's slices lie.
    """
    distances = _without_padding(_distances(np.moveaxis(volume, axis, 0), slices))
    breaks = count_broken_neighbours(distances)
    if breaks >= MIN_BREAKS:
        detail = f"{breaks} slices continue elsewhere than beside them: the slices are not in their order."
        return QCFlag("slice_order", "refuse", detail, breaks)
    if has_exchanged_parts(distances):
        detail = "The last slice continues in the first: two parts of the volume are exchanged."
        return QCFlag("slice_order", "refuse", detail, breaks)
    return QCFlag("slice_order", "ok", "Each slice is most like the ones beside it.", breaks)


def _distances(planes: NDArray[np.float32], slices: int) -> NDArray[np.float32]:
    """Root of the mean squared difference of each two slices, ``(N, N)``."""
    depth = len(planes)
    if slices < depth:
        planes = planes[np.rint(np.linspace(0, depth - 1, slices)).astype(int)]
    stride = max(1, min(planes.shape[1:]) // SAMPLES)
    flat = np.ascontiguousarray(planes[:, ::stride, ::stride]).reshape(len(planes), -1)
    # Not as one matrix product: OpenBLAS would give it to threads that then wait in a loop.
    squared = [np.square(flat - plane).mean(axis=1) for plane in flat]
    distances: NDArray[np.float32] = np.sqrt(squared)
    return distances


def _without_padding(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave out ends of slices that are all the same, and the slice beside them, into which they are interpolated."""
    same_as_first, same_as_last = (distances[end] <= ROUNDING_TOLERANCE for end in (0, -1))
    first, last = int(np.argmin(same_as_first)), len(distances) - int(np.argmin(same_as_last[::-1]))
    inside = slice(first + 1 if first > 1 else 0, last - 1 if last < len(distances) - 1 else None)
    return distances[inside, inside] if len(distances[inside]) >= FEWEST_SLICES else distances


def count_broken_neighbours(distances: NDArray[np.float32]) -> int:
    """How many times a slice and the one beside it are far apart while the true neighbour lies elsewhere.

    Parameters
    ----------
    distances
        ``(N, N)``, symmetric.
    """
    count = len(distances)
    if _symmetric(distances):
        return 0
    beside = ((k, k + step) for k in range(count) for step in (-1, 1) if 0 <= k + step < count)
    return sum(_has_nearer_slice(distances, k, other) for k, other in beside)


def has_exchanged_parts(distances: NDArray[np.float32]) -> bool:
    """Whether the volume begins in the middle: the last slice is to the first as neighbours are, but for one junction.

    There neighbours of neighbours are compared, as interpolation mixes the two slices. Ends that show the same are no
    sign, nor is a second junction: something begins there and ends.

    Parameters
    ----------
    distances
        ``(N, N)``, symmetric.
    """
    ends, junction = float(distances[0, -1]), int(distances.diagonal(2).argmax())
    limit = MAX_DISTANCE_RATIO * float(distances.diagonal(2)[junction])
    usual = float(np.delete(distances.diagonal(1), [junction, junction + 1]).max())
    return not _symmetric(distances) and SYMMETRY_TOLERANCE < ends <= usual < limit


def _symmetric(distances: NDArray[np.float32]) -> bool:
    """Whether each slice is nearest to its mirror image: an object that is the same from head to foot and back."""
    mirrored = float(np.median(np.fliplr(distances).diagonal()))
    return mirrored <= MAX_DISTANCE_RATIO * float(np.median(distances.diagonal(1)))


def _has_nearer_slice(distances: NDArray[np.float32], k: int, beside: int) -> bool:
    """Whether a slice other than the two beside ``k`` and their neighbours is much nearer to it than ``beside``."""
    elsewhere = np.abs(np.arange(len(distances)) - k) > 2
    if not elsewhere.any():
        return False
    other_side = 2 * k - beside
    second = 2 * other_side - k
    nearest = float(distances[k][elsewhere].min())
    limit = distances[k][second] if 0 <= second < len(distances) else np.inf
    apart = distances[k, beside]
    return bool(
        apart > SYMMETRY_TOLERANCE and nearest < MAX_DISTANCE_RATIO * apart and nearest < limit - ROUNDING_TOLERANCE
    )
