"""Whether slices are stacked in the order in which they lie: a look at each slice's neighbours.

Files named 1, 10, 11, 2 and stacked by name give a volume whose slices resemble others more than the ones beside
them. In a sound volume slices grow less alike with distance, so that the nearest one is a neighbour.
"""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.scan.qc_flag import QCFlag

MIN_BREAKS = 4
"""Ends of runs whose continuation lies elsewhere; one slice in a wrong place makes two or three."""

MAX_DISTANCE_RATIO = 0.7
"""Of the distance to the slice beside it, at which the true neighbour of a slice lies at most."""

SYMMETRY_TOLERANCE = 0.02
"""Distance, of the HU window, up to which two slices show the same."""

ROUNDING_TOLERANCE = 1e-4
"""Distance by which slices that are the same may differ after interpolation."""

PIXEL_STRIDE = 4
"""Every fourth row and column tell slices apart."""


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
    breaks = count_broken_neighbours(_distances(np.moveaxis(volume, axis, 0), slices))
    shuffled = breaks >= MIN_BREAKS
    detail = (
        f"{breaks} slices continue elsewhere in the volume than beside them: the slices are not in their order."
        if shuffled
        else "Each slice is most like the ones beside it."
    )
    return QCFlag("slice_order", "refuse" if shuffled else "ok", detail, breaks)


def _distances(planes: NDArray[np.float32], slices: int) -> NDArray[np.float32]:
    """Root of the mean squared difference of each two slices, ``(N, N)``."""
    depth = len(planes)
    if slices < depth:
        planes = planes[np.rint(np.linspace(0, depth - 1, slices)).astype(int)]
    flat = np.ascontiguousarray(planes[:, ::PIXEL_STRIDE, ::PIXEL_STRIDE]).reshape(len(planes), -1)
    # Not as one matrix product: OpenBLAS would give it to threads that then wait in a loop.
    squared = [np.square(flat - plane).mean(axis=1) for plane in flat]
    distances: NDArray[np.float32] = np.sqrt(squared)
    return distances


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
