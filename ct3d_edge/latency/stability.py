"""Warnings about unstable series of durations: drift, bimodality, spread, outliers, interference."""

import math
from collections.abc import Sequence
from statistics import median

from ct3d_edge.latency.statistics import nearest_rank
from ct3d_edge.latency.system_monitor import SystemSnapshot

MIN_RUNS = 20
"""Number of durations below which the shape of the distribution is not assessed."""

OUTLIER_IQR_FACTOR = 3.0
"""Quartile distances above the third quartile (Tukey, Exploratory Data Analysis, 1977, section 2D)."""

MAX_RELATIVE_IQR = 0.10
"""Quartile distance over the median; pyperf calls a benchmark unstable where the deviation is a tenth of the mean."""

MIN_DRIFT, DRIFT_P_VALUE = 0.02, 0.001
"""Least change of level, and largest p value of the trend, for a warning."""

MIN_ASHMAN_D, MIN_MODE_SHARE = 4.5, 0.1
"""Distance D (Ashman, Bird & Zepf 1994, Astron. J. 108:2348) of two modes, and share of the smaller one. The halves of
a normal distribution have 2.7, of a uniform one 3.5; two narrow peaks far more."""

MAX_EXTERNAL_CORES, MAX_STEAL_SHARE, MAX_FREQUENCY_RATIO = 0.1, 0.01, 1.05
"""Limits of interference: cores used by other processes, share of stolen time, ratio of frequencies."""


def stability_warnings(durations: Sequence[float], snapshots: Sequence[SystemSnapshot] = ()) -> list[str]:
    """Describe anomalies of a series, a sentence each, and last the interference that may have caused them.

    Interference is reported even without an anomaly: it changes the figures.

    Parameters
    ----------
    durations
        In ms, in the order in which they were measured.
    snapshots
        Snapshots of the machine before, during and after.
    """
    causes = "; ".join(interference(snapshots))
    anomalies = _anomalies(durations) if len(durations) >= MIN_RUNS else []
    if not anomalies:
        return [f"While this was measured, {causes}."] if causes else []
    if len(snapshots) < 2:
        return [*anomalies, "The machine was not monitored, so no cause can be named."]
    return [*anomalies, f"Likely cause: {causes}." if causes else "No cause was observed on this machine."]


def _anomalies(durations: Sequence[float]) -> list[str]:
    found = (_drift(durations), _bimodality(durations), _spread(durations), _outliers(durations))
    return [text for text in found if text]


def _quartiles(durations: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(durations)
    low, high = (ordered[nearest_rank(len(ordered), rank) - 1] for rank in (25, 75))
    return low, high


def _outliers(durations: Sequence[float]) -> str | None:
    low, high = _quartiles(durations)
    limit = high + OUTLIER_IQR_FACTOR * (high - low)
    beyond = [duration for duration in durations if duration > limit]
    if not beyond:
        return None
    return f"{len(beyond)} of {len(durations)} runs are outliers, up to {max(beyond):.1f} ms; they are counted."


def _spread(durations: Sequence[float]) -> str | None:
    low, high = _quartiles(durations)
    spread = (high - low) / median(durations)
    if spread < MAX_RELATIVE_IQR:
        return None
    return f"Unstable: the middle half of the runs spans {spread:.0%} of the median."


def _drift(durations: Sequence[float]) -> str | None:
    """A trend, by rank correlation with the order (Mann 1945, Econometrica 13:245), and its size."""
    third = len(durations) // 3
    change = median(durations[-third:]) / median(durations[:third]) - 1
    if abs(change) < MIN_DRIFT or trend_p_value(durations) > DRIFT_P_VALUE:
        return None
    way = "slower" if change > 0 else "faster"
    return f"Drift: the last third is {abs(change):.1%} {way} than the first; intervals are too narrow."


def trend_p_value(series: Sequence[float]) -> float:
    """Two-sided p value of a trend: Mann's test in the normal approximation.

    S counts pairs in ascending less pairs in descending order; without a trend its variance is
    n (n - 1) (2 n + 5) / 18. Ties make the variance smaller, so this p value is an upper bound.
    """
    import numpy as np

    values, n = np.asarray(series), len(series)
    score = sum(int(np.sign(values[index + 1 :] - values[index]).sum()) for index in range(n - 1))
    return math.erfc(abs(score) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18) / math.sqrt(2))


def _bimodality(durations: Sequence[float]) -> str | None:
    cut = split_two_modes(durations)
    if cut is None:
        return None
    low, high = cut
    parts = (f"{len(part) / len(durations):.0%} of the runs around {median(part):.1f} ms" for part in (low, high))
    return f"Two levels: {', '.join(parts)}."


def split_two_modes(durations: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """Split a series into the two parts with the least variance within; None if they are not separated.

    D is sqrt(2) times the distance of the means over the root of the sum of the variances.
    """
    import numpy as np

    ordered = np.sort(np.asarray(durations, float))
    smallest = max(2, math.ceil(MIN_MODE_SHARE * len(ordered)))
    cuts = range(smallest, len(ordered) - smallest + 1)
    cut = min(cuts, key=lambda n: n * ordered[:n].var() + (len(ordered) - n) * ordered[n:].var())
    low, high = ordered[:cut], ordered[cut:]
    distance, scatter = high.mean() - low.mean(), math.sqrt(low.var() + high.var())
    if distance == 0 or math.sqrt(2) * distance < MIN_ASHMAN_D * scatter:
        return None
    return low.tolist(), high.tolist()


def interference(snapshots: Sequence[SystemSnapshot]) -> list[str]:
    """Events between the first and the last snapshot that affect durations, a clause each."""
    if len(snapshots) < 2 or snapshots[-1].at_s <= snapshots[0].at_s:
        return []
    first, last = snapshots[0], snapshots[-1]
    clauses = external_load(snapshots)
    frequencies = [snapshot.mhz for snapshot in snapshots if snapshot.mhz]
    if frequencies and max(frequencies) / min(frequencies) > MAX_FREQUENCY_RATIO:
        clauses.append(f"the CPU ran at {min(frequencies):.0f} to {max(frequencies):.0f} MHz")
    if periods := _increase(first.throttled, last.throttled):
        clauses.append(f"the container's CPU quota stopped it in {periods:.0f} periods")
    if times := _increase(first.too_hot, last.too_hot):
        clauses.append(f"cores were slowed down for heat {times:.0f} times")
    return clauses


def external_load(snapshots: Sequence[SystemSnapshot]) -> list[str]:
    """Interference from other processes on this machine and from other guests of its host, a clause each."""
    if len(snapshots) < 2 or snapshots[-1].at_s <= snapshots[0].at_s:
        return []
    first, last = snapshots[0], snapshots[-1]
    seconds = last.at_s - first.at_s
    clauses = []
    busy = _increase(first.busy_s, last.busy_s)
    if busy is not None and (others := (busy - (last.own_s - first.own_s)) / seconds) > MAX_EXTERNAL_CORES:
        clauses.append(f"other processes used {others:.1f} cores on average")
    if (_increase(first.stolen_s, last.stolen_s) or 0) / seconds > MAX_STEAL_SHARE:
        clauses.append(f"the hypervisor ran other guests for {(last.stolen_s or 0) - (first.stolen_s or 0):.1f} s")
    return clauses


def _increase(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
