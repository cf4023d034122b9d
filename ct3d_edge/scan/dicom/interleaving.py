"""Whether slices of one series lie in each other: by the value of an attribute, or in the order of their numbers."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.scan.dicom.consistency import POSITION_TOLERANCE_MM, SliceOf
from ct3d_edge.scan.dicom.frames import ORDER_TAGS, PASS_FEATURES, make_pass_value

MIN_SLICES_PER_PASS = 3
"""Slices from which on those with one value of an attribute count as a pass."""

INTERLEAVED_FRACTION = 0.25
"""Share of the slices of the smaller of two passes that have to lie in the other one."""

MAX_GAP_STEPS = 1.5
"""Slices of a pass farther apart than this, in its usual distances, have a hole between them."""

STEP_TOLERANCE = 0.25
"""How far a distance may be from a whole number of the usual ones within one pass."""

MIN_TURN_DIFFERENCE = 0.02
"""Of two distances, in the usual ones, so that the less even of them is known."""

FRAME_NUMBER = "FrameNumber"
"""The place of a frame in its file, as DICOM calls it; an element of that name is not in the file."""


def find_runs(slices: Sequence[SliceOf], heights: NDArray[np.float64]) -> tuple[str, tuple[str, ...]] | None:
    """How often slices, in the order of their numbers or times, run through the same part of the body.

    Parameters
    ----------
    heights
        ``(N,)``, position of each slice along the normal in mm.

    Returns
    -------
    tuple or None
        The attribute that orders the slices and, for each slice, a name of its run; None if there is one run, or
        the slices are in no order.
    """
    columns = [*zip(ORDER_TAGS, zip(*(slice_.frame.order for slice_ in slices), strict=True), strict=True)]
    if len({slice_.image.path for slice_ in slices}) == 1:
        columns.append((FRAME_NUMBER, tuple(slice_.frame.number + 1.0 for slice_ in slices)))
    for keyword, numbers in columns:
        if None in numbers or len(set(numbers)) < MIN_SLICES_PER_PASS:
            continue
        those = np.array(numbers, np.float64)
        runs = _number_runs(those, heights)
        if runs is None and keyword == ORDER_TAGS[0]:
            runs = _rank_in_number(those, heights)
        if runs is not None and are_interleaved(runs.tolist(), heights):
            return keyword, tuple(make_pass_value(f"{run:.8g}") for run in runs)
    return None


def _number_runs(numbers: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The first number of the run that each slice is in; None if there is one run, or a run is no pass.

    A run ends where the next slice does not lie one or several of the usual distances farther in its direction.
    """
    order = np.lexsort((heights, numbers))
    steps = np.diff(heights[order])
    usual = float(np.median(np.abs(steps)))
    if usual < POSITION_TOLERANCE_MM:
        return None
    counts = np.abs(steps) / usual
    uneven = (counts < 1 - STEP_TOLERANCE) | (np.abs(counts - np.rint(counts)) > STEP_TOLERANCE)
    turned = np.append(False, (steps[1:] * steps[:-1] < 0) & ~uneven[:-1])
    back = uneven | (turned & (counts > MAX_GAP_STEPS))
    # The step after one that begins a run goes wherever the run goes.
    at = np.flatnonzero(turned & ~back & ~np.append(False, back[:-1]))
    # The slice at a turn ends one run or begins the next: of its two steps, the less even one lies between them.
    off = np.abs(counts - 1)
    if (np.abs(off[at] - off[at - 1]) < MIN_TURN_DIFFERENCE).any():
        return None
    back[np.where(off[at] > off[at - 1], at, at - 1)] = True
    run = np.append(0, np.cumsum(back))
    if run[-1] == 0 or np.bincount(run).min() < MIN_SLICES_PER_PASS:
        return None
    first = numbers[order][np.flatnonzero(np.diff(run, prepend=-1))]
    runs = np.empty(len(numbers))
    runs[order] = first[run]
    return runs if len(set(first)) == len(first) else None


def _rank_in_number(numbers: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """For numbers that begin anew with each pass: 1 for the lowest slice of each number, 2 for the next one.

    None unless the slices of each rank are evenly spaced but for holes, and as far from those of the next rank.
    """
    order = np.lexsort((heights, numbers))
    _, first, counts = np.unique(numbers[order], return_index=True, return_counts=True)
    ranked = np.arange(len(numbers)) - np.repeat(first, counts) + 1
    offsets = np.diff(heights[order], prepend=heights[order[0]])
    for rank in range(2, int(counts.max()) + 1):
        apart = offsets[ranked == rank]
        if apart.min() < POSITION_TOLERANCE_MM or np.ptp(apart) > STEP_TOLERANCE * apart.min():
            return None
    ranks = np.empty(len(numbers))
    ranks[order] = ranked
    several = counts.max() > 1 and all(_is_even(np.sort(heights[ranks == rank])) for rank in set(ranked.tolist()))
    return ranks if several else None


def _is_even(heights: NDArray[np.float64]) -> bool:
    """Whether most of at least `MIN_SLICES_PER_PASS` increasing heights are equally far from the next."""
    steps = np.diff(heights)
    if len(steps) < MIN_SLICES_PER_PASS - 1:
        return False
    usual = float(np.median(steps))
    return bool(np.mean(np.abs(steps - usual) <= STEP_TOLERANCE * usual) > 1 / 2)


def are_interleaved(values: Sequence[object], heights: NDArray[np.float64]) -> bool:
    """Whether slices of two values lie in each other, each at their usual distance."""
    groups: dict[object, list[float]] = defaultdict(list)
    for value, height in zip(values, heights, strict=True):
        groups[value].append(float(height))
    passes = [np.unique(those) for those in groups.values() if len(those) >= MIN_SLICES_PER_PASS]
    return any(_ranges_interleave(one, other) for one, other in itertools.combinations(passes, 2))


def find_stray_slices(
    slices: Sequence[SliceOf], heights: NDArray[np.float64]
) -> tuple[tuple[str, ...], list[SliceOf]] | None:
    """One or two slices of another pass: too few to be a pass, between slices that are complete without them.

    Parameters
    ----------
    heights
        ``(N,)``, position of each slice along the normal in mm.

    Returns
    -------
    tuple or None
        The attributes that tell them apart, and the slices that the first of these attributes does.
    """
    found: dict[str, list[SliceOf]] = {}
    for keyword, values in zip(
        PASS_FEATURES, zip(*(slice_.frame.passes for slice_ in slices), strict=True), strict=False
    ):
        counts = Counter(values)
        stray = np.array([counts[value] < MIN_SLICES_PER_PASS for value in values])
        if 0 < np.count_nonzero(stray) < MIN_SLICES_PER_PASS and _count_inside(
            heights[stray], np.sort(heights[~stray])
        ) == np.count_nonzero(stray):
            found[keyword] = [slice_ for slice_, odd in zip(slices, stray, strict=True) if odd]
    return (tuple(found), next(iter(found.values()))) if found else None


def _ranges_interleave(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether each of two runs of heights goes on, at its usual distance, where slices of the other lie.

    Where they share one grid instead, the one has holes where slices of the other lie.
    """
    fewest, most = sorted((_count_inside(one, other), _count_inside(other, one)))
    return (
        fewest >= max(MIN_SLICES_PER_PASS - 1, INTERLEAVED_FRACTION * min(len(one), len(other)))
        and most >= MIN_SLICES_PER_PASS
    )


def _count_inside(some: NDArray[np.float64], others: NDArray[np.float64]) -> int:
    """How many of some heights lie between two of the others that are neighbours, or on one of them."""
    if len(others) < 2 or some[0] > others[-1] or some[-1] < others[0]:
        return 0
    steps = np.diff(others)
    above = np.clip(np.searchsorted(others, some, "right"), 1, len(steps))
    between = (steps[above - 1] <= MAX_GAP_STEPS * np.median(steps)) & (some >= others[0]) & (some <= others[-1])
    on_one = np.minimum(np.abs(some - others[above - 1]), np.abs(some - others[above])) < POSITION_TOLERANCE_MM
    return int(np.count_nonzero(between | on_one))
