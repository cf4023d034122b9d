"""Checks of a scan's planes against those beside them: values of another scale, and two volumes in turn."""

import math

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.formatting import plural
from ct3d_edge.preprocessing import SourcePlanes
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan

MIN_PLANES = 8
"""Of fewer, none can be called unusual."""

SAMPLE_STRIDE = 2
"""Every second sample enters the distribution of a plane."""

MAX_HU_STEP = 170.0
"""Largest distance of the HU distributions of two planes that follow one another. Real scans: 83 HU, docs/inputs.md."""

MIN_LONE_STEP = 40.0
MIN_LONE_RATIO = 1.5
"""A plane is farther than this, in HU, from both beside it, and by this ratio farther than they are from each other.
Real scans: 0.52."""

SQUARE_TOLERANCE = 1e-3
"""Relative difference of the edges of a square pixel."""

MAX_NAMED = 3
"""Planes named in a message."""

ALTERNATION_RATIO = 0.9
"""Of the difference to the next plane, that the difference to the next but one has at most where two volumes take
turns. Real scans: 1.04 at least, where planes hold tissue."""

MIN_DIFFERENCE = 0.02
"""Root mean square difference of two planes, of the HU window, below which both show the same."""

MIN_ALTERNATING = 6
MIN_ALTERNATING_FRACTION = 1 / 8
"""Planes that are more like the next but one. Real scans: 1 of 255 at most."""


def slice_flags(scan: Scan, planes: SourcePlanes, window_hu: float) -> list[QCFlag]:
    """Measured values of the checks of planes; none of a scan of few planes, or whose planes are no slices.

    Parameters
    ----------
    window_hu
        Width of the HU window to which the samples are scaled.
    """
    if len(planes.indices) < MIN_PLANES or _lie_across_slices(scan.spacing):
        return []
    return [_check_distribution(planes, window_hu), _check_alternation(planes)]


def _lie_across_slices(spacing: tuple[float, float, float] | None) -> bool:
    """Whether pixels are square in another plane than the one that is read: slices lie along another axis."""
    if spacing is None:
        return False
    i, j, k = spacing
    return not math.isclose(i, j, rel_tol=SQUARE_TOLERANCE) and any(
        math.isclose(edge, k, rel_tol=SQUARE_TOLERANCE) for edge in (i, j)
    )


def _check_distribution(planes: SourcePlanes, window_hu: float) -> QCFlag:
    outliers = find_outliers(planes.samples, window_hu)
    if not len(outliers):
        return QCFlag("outlier_slices", "ok", "Slices have HU like those beside them.", 0)
    named = ", ".join(str(planes.indices[n]) for n in outliers[:MAX_NAMED])
    more = ", ..." if len(outliers) > MAX_NAMED else ""
    detail = (
        f"The HU of {plural(len(outliers), 'slice')} are distributed unlike those beside them (number {named}{more}, "
        "from 0): another scale, or another scan."
    )
    return QCFlag("outlier_slices", "warn", detail, len(outliers))


def find_outliers(samples: NDArray[np.float32], window_hu: float) -> NDArray[np.intp]:
    """Planes whose HU are distributed unlike those beside them.

    Measured is the Wasserstein distance of the HU of two planes: the mean difference of their sorted samples. Found are
    planes that are far from both beside them, and those between two steps or beyond one.

    Parameters
    ----------
    samples
        ``(N, M)``, see `SourcePlanes`.
    """
    ordered = np.sort(samples[:, ::SAMPLE_STRIDE], axis=1) * window_hu
    steps = np.abs(np.diff(ordered, axis=0)).mean(axis=1)
    runs = np.split(np.arange(len(ordered)), np.flatnonzero(steps > MAX_HU_STEP) + 1)
    longest = max(range(len(runs)), key=lambda n: len(runs[n]))
    found = np.ones(len(ordered), bool)
    found[runs[longest]] = False
    for side, near, far in ((runs[longest + 1 :], 0, -1), (runs[:longest][::-1], -1, 0)):
        last = runs[longest][far]
        for run in side:
            if np.abs(ordered[run[near]] - ordered[last]).mean() <= MAX_HU_STEP:
                found[run] = False
                last = run[far]
    nearer = np.minimum(steps[:-1], steps[1:])
    across = np.abs(ordered[2:] - ordered[:-2]).mean(axis=1)
    found[1:-1] |= (nearer > MIN_LONE_STEP) & (nearer > MIN_LONE_RATIO * across)
    return np.flatnonzero(found)


def _check_alternation(planes: SourcePlanes) -> QCFlag:
    count = count_alternating(planes)
    if count < max(MIN_ALTERNATING, MIN_ALTERNATING_FRACTION * len(planes.indices)):
        return QCFlag("interleaved_slices", "ok", "Slices are most like the next ones.", count)
    detail = (
        f"{count} of {len(planes.indices)} slices are more like the next but one than the next: two volumes take turns."
    )
    return QCFlag("interleaved_slices", "refuse", detail, count)


def count_alternating(planes: SourcePlanes) -> int:
    """How many planes are more like a plane of the same parity than like a nearer one of the other."""
    at, samples = planes.indices, planes.samples
    apart = np.abs(at[:, None] - at)
    odd = apart % 2 == 1
    far = apart.max() + 1
    other = np.where(odd, apart, far).argmin(axis=1)
    same = np.where(odd | (apart == 0), far, apart).argmin(axis=1)
    rows = np.arange(len(at))
    nearer = apart[rows, other] < apart[rows, same]
    to_other = np.sqrt(np.square(samples - samples[other]).mean(axis=1))
    to_same = np.sqrt(np.square(samples - samples[same]).mean(axis=1))
    alternating = nearer & (to_other > MIN_DIFFERENCE) & (to_same < ALTERNATION_RATIO * to_other)
    return int(np.count_nonzero(alternating))
