"""Compare two series of durations: comparability of records, bootstrap intervals, regression thresholds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import interference
from ct3d_edge.latency.statistics import CONFIDENCE_LEVEL, min_samples, nearest_rank, percentile

MATCHING_ENVIRONMENT = (
    "architecture",
    "cpu",
    "cpu_flags",
    "cores_usable",
    "cores_present",
    "cgroup_cpu_max",
    "governor",
)
"""Fields of the environment that must be equal: another machine, or other limits, cannot be compared."""

MATCHING_CONDITIONS = ("scans", "order", "scenario", "configurations")
"""Conditions that must be equal: other work cannot be compared."""

NOTED_ENVIRONMENT = ("platform", "memory", "python", "packages")
"""Fields of the environment whose changes are reported: they are often the subject of a comparison."""


def comparability_errors(before: BenchRecord, after: BenchRecord) -> list[str]:
    """Reasons why two records must not be compared, a clause each."""
    same = before.question == after.question
    return [
        *([] if same else [f"question: {before.question!r} and {after.question!r}"]),
        *_differences(before.environment, after.environment, MATCHING_ENVIRONMENT),
        *_differences(before.conditions, after.conditions, MATCHING_CONDITIONS),
    ]


def comparability_notes(before: BenchRecord, after: BenchRecord) -> list[str]:
    """Other differences, incomplete records and interference, a sentence each."""
    others = sorted((set(before.conditions) | set(after.conditions)) - set(MATCHING_CONDITIONS))
    differences = _differences(before.environment, after.environment, NOTED_ENVIRONMENT)
    notes = [f"Differs: {text}" for text in differences + _differences(before.conditions, after.conditions, others)]
    for name, record in (("first", before), ("second", after)):
        notes += [f"The {name} record is incomplete: {record.incomplete}"] if record.incomplete else []
        notes += [f"During the {name} record {text}." for text in interference(record.surroundings)]
    return notes


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str], prefix: str = ""
) -> list[str]:
    differences = []
    for name in names:
        first, second = before.get(name), after.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            differences += _differences(first, second, sorted(first.keys() | second.keys()), f"{prefix}{name}.")
        elif first != second:
            differences.append(f"{prefix}{name}: {_short(first)} and {_short(second)}")
    return differences


def _short(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


RESAMPLES = 4000
"""Each end of a 99 % interval is then estimated from 20 resamples."""

MAX_DRAWN_AT_ONCE = 1 << 20
"""Samples drawn at once; resamples of long series are drawn in parts, which bounds the memory."""

MIN_MEDIAN_SAMPLES = 8
"""Samples from which a median has an interval at 99 %."""


@dataclass(frozen=True)
class PercentileChange:
    """A percentile of two series of durations in ms, and how the second relates to the first.

    Parameters
    ----------
    rank
        50, 90, 95, 99 or 99.9.
    before, after
        The percentile of each series, in ms.
    ratio
        Of the second to the first; for the median of a paired comparison, the median of the ratios round by round.
    low, high
        99 % interval of the ratio; None where one of the series is too short.
    paired
        Whether sample n of one belongs to sample n of the other.
    missing
        Samples that the shorter series still needs before the percentile can be compared.
    """

    rank: float
    before: float
    after: float
    ratio: float
    low: float | None
    high: float | None
    paired: bool
    missing: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes "no change", a ratio of 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    def describe(self) -> str:
        """``12.3% slower``, ``no significant difference``."""
        if self.low is None or self.high is None:
            return f"cannot be compared: needs {self.missing} more runs"
        if not self.significant:
            return "no significant difference"
        return f"{abs(self.ratio - 1):.1%} {'slower' if self.ratio > 1 else 'faster'}"


def compare_percentile(
    before: Sequence[float], after: Sequence[float], rank: float = 50, *, paired: bool = False, seed: int = 0
) -> PercentileChange:
    """Compare a percentile of two series.

    Unpaired, and paired above the median, the interval is that of a circular block bootstrap. Blocks have the cube root
    of the number of samples: successive durations are correlated, and resampling them singly would make the interval
    too narrow (Künsch 1989, Ann. Stat. 17:1217; Politis & Romano 1992,
    "A circular block-resampling procedure"). Paired, both series are drawn at the same positions. The median of a
    paired comparison has the interval from order statistics of its ratios, which needs no resampling.

    Raises
    ------
    ValueError
        If a series is empty, or paired ones differ in length.
    """
    if paired and len(before) != len(after):
        raise ValueError("paired series have one length")
    first, second = percentile(before, rank).value, percentile(after, rank).value
    shorter = min(len(before), len(after))
    missing = max(0, max(MIN_MEDIAN_SAMPLES, min_samples(rank)) - shorter)
    low = high = None
    ratio = second / first
    if paired and rank == 50:
        ratios = percentile([b / a for a, b in zip(before, after, strict=True)], 50)
        ratio, low, high = ratios.value, ratios.low, ratios.high
    elif not missing:
        low, high = _bootstrap(np.asarray(before), np.asarray(after), rank, paired, seed)
    return PercentileChange(rank, first, second, ratio, low, high, paired, missing)


def _bootstrap(
    before: NDArray[np.float64], after: NDArray[np.float64], rank: float, paired: bool, seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    at_once = max(1, MAX_DRAWN_AT_ONCE // max(len(before), len(after)))
    ratios = []
    for begin in range(0, RESAMPLES, at_once):
        resamples = min(at_once, RESAMPLES - begin)
        drawn = _draw_blocks(rng, resamples, len(before))
        drawn_after = drawn if paired else _draw_blocks(rng, resamples, len(after))
        ratios.append(_at_rank(after[drawn_after], rank) / _at_rank(before[drawn], rank))
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return float(low), float(high)


def _draw_blocks(rng: np.random.Generator, resamples: int, length: int) -> NDArray[np.intp]:
    """Indices ``(resamples, length)`` of samples, drawn in blocks of neighbours."""
    block = round(length ** (1 / 3))
    starts = rng.integers(0, length, (resamples, -(-length // block)))
    indices: NDArray[np.intp] = (starts[:, :, None] + np.arange(block)) % length
    return indices.reshape(resamples, -1)[:, :length]


def _at_rank(samples: NDArray[np.float64], rank: float) -> NDArray[np.float64]:
    """A percentile of each row."""
    index = nearest_rank(samples.shape[1], rank) - 1
    values: NDArray[np.float64] = np.partition(samples, index, axis=1)[:, index]
    return values


THRESHOLD_PATTERN = re.compile(
    r"(?:(?P<series>\S(?:.*\S)?)\s+)?p(?P<rank>50|90|95|99\.9|99)\s*>\s*\+?(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>%|ms)"
)


@dataclass(frozen=True)
class RegressionThreshold:
    """The change of a percentile above which a comparison fails.

    Parameters
    ----------
    text
        The expression.
    series
        Name of the series; the widest clock if None.
    rank
        Rank of the percentile.
    limit
        In ``unit``.
    unit
        ``"%"``: of the second series above the first; ``"ms"``: of the second series alone.
    """

    text: str
    series: str | None
    rank: float
    limit: float
    unit: Literal["%", "ms"]

    @classmethod
    def parse(cls, text: str) -> "RegressionThreshold":
        """Read an expression.

        Raises
        ------
        UsageError
            If it is not of the form.
        """
        match = THRESHOLD_PATTERN.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                "A threshold is [SERIES] pNN > +N% or [SERIES] pNN > Nms, with p50, p90, p95, p99 or p99.9, such as "
                f"'p50 > +5%' or 'infer p90 > 400ms'; found {text!r}."
            )
        unit: Literal["%", "ms"] = "%" if match["unit"] == "%" else "ms"
        return cls(text.strip(), match["series"], float(match["rank"]), float(match["limit"]), unit)

    def exceeded_by(self, change: PercentileChange) -> bool:
        """Whether a change of this series and rank exceeds it.

        A share is exceeded by a change that is larger and significant; an absolute limit by the second value.

        Raises
        ------
        UsageError
            If there are too few samples.
        """
        if change.missing:
            raise UsageError(
                f"'{self.text}' cannot be checked: it needs {change.missing} more runs in the shorter record."
            )
        if self.unit == "ms":
            return change.after > self.limit
        return change.significant and change.ratio - 1 > self.limit / 100
