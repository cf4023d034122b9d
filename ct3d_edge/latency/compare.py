"""Whether one series of durations is slower than another: comparability, a bootstrap, and a regression threshold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import CONFIDENCE_LEVEL, min_samples, nearest_rank, percentile
from ct3d_edge.latency.system_monitor import interference

MATCHING_ENVIRONMENT = (
    "architecture",
    "cpu",
    "cpu_flags",
    "cores_usable",
    "cores_present",
    "cgroup_cpu_max",
    "governor",
)
"""Of the environment: another machine, or this one with other limits."""

MATCHING_CONDITIONS = ("scans", "order", "scenario", "configurations")
"""Of the conditions: other work."""

NOTED_ENVIRONMENT = ("platform", "memory", "python", "packages")
"""Of the environment; that one of them changed is often the very question."""


def comparability_errors(before: BenchRecord, after: BenchRecord) -> list[str]:
    """Why two records must not be compared, a clause each."""
    found = [] if before.question == after.question else [f"question: {before.question!r} and {after.question!r}"]
    found += _differences(before.environment, after.environment, MATCHING_ENVIRONMENT)
    return found + _differences(before.conditions, after.conditions, MATCHING_CONDITIONS)


def comparability_notes(before: BenchRecord, after: BenchRecord) -> list[str]:
    """What else differs or was odd, a sentence each; whoever compares should know it."""
    found = [f"Differs: {text}" for text in _differences(before.environment, after.environment, NOTED_ENVIRONMENT)]
    others = sorted((set(before.conditions) | set(after.conditions)) - set(MATCHING_CONDITIONS))
    found += [f"Differs: {text}" for text in _differences(before.conditions, after.conditions, others)]
    for name, record in (("first", before), ("second", after)):
        found += [f"The {name} record is incomplete: {record.incomplete}"] if record.incomplete else []
        found += [f"During the {name} record {text}." for text in interference(record.surroundings)]
    return found


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, ...] | list[str], prefix: str = ""
) -> list[str]:
    found = []
    for name in names:
        one, other = before.get(name), after.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, sorted(one.keys() | other.keys()), f"{prefix}{name}.")
        elif one != other:
            found.append(f"{prefix}{name}: {_short(one)} and {_short(other)}")
    return found


def _short(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


RESAMPLES = 4000
"""So that each end of a 99 % interval rests on 20 of them."""

MAX_DRAWN_AT_ONCE = 1 << 20
"""Samples drawn at once; the resamples of long series come in parts."""

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
        """Whether the interval leaves no room for "no change"."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    def describe(self) -> str:
        """A verdict: ``12.3 % slower``, ``no significant difference``."""
        if self.low is None or self.high is None:
            return f"cannot be compared: needs {self.missing} more runs"
        if not self.significant:
            return "no significant difference"
        return f"{abs(self.ratio - 1):.1%} {'slower' if self.ratio > 1 else 'faster'}"


def compare_percentile(
    before: Sequence[float], after: Sequence[float], rank: float = 50, *, paired: bool = False, seed: int = 0
) -> PercentileChange:
    """Compare a percentile of two series.

    Unpaired, and paired above the median, the interval is that of a bootstrap which draws blocks of successive samples,
    of the cube root of their number, from the series bent to a circle: durations that stand beside each other resemble
    each other, and drawing them singly would promise too much (Künsch 1989, Ann. Stat. 17:1217; Politis & Romano 1992,
    "A circular block-resampling procedure"). Paired, both series are drawn at the same places. The median of a paired
    comparison has the interval from order statistics of its ratios, which needs no resampling.

    Raises
    ------
    ValueError
        If a series is empty, or paired ones differ in length.
    """
    if paired and len(before) != len(after):
        raise ValueError("paired series have one length")
    one, other = percentile(before, rank).value, percentile(after, rank).value
    shorter = min(len(before), len(after))
    missing = max(0, max(MIN_MEDIAN_SAMPLES, min_samples(rank)) - shorter)
    low = high = None
    ratio = other / one
    if paired and rank == 50:
        of_ratios = percentile([b / a for a, b in zip(before, after, strict=True)], 50)
        ratio, low, high = of_ratios.value, of_ratios.low, of_ratios.high
    elif not missing:
        low, high = _bootstrap(np.asarray(before), np.asarray(after), rank, paired, seed)
    return PercentileChange(rank, one, other, ratio, low, high, paired, missing)


def _bootstrap(
    before: NDArray[np.float64], after: NDArray[np.float64], rank: float, paired: bool, seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    at_once = max(1, MAX_DRAWN_AT_ONCE // max(len(before), len(after)))
    ratios = []
    for begin in range(0, RESAMPLES, at_once):
        resamples = min(at_once, RESAMPLES - begin)
        places = _blocks(rng, resamples, len(before))
        others = places if paired else _blocks(rng, resamples, len(after))
        ratios.append(_at_rank(after[others], rank) / _at_rank(before[places], rank))
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return float(low), float(high)


def _blocks(rng: np.random.Generator, resamples: int, length: int) -> NDArray[np.intp]:
    """Places ``(resamples, length)`` of samples, drawn in blocks of neighbours."""
    block = round(length ** (1 / 3))
    starts = rng.integers(0, length, (resamples, -(-length // block)))
    places: NDArray[np.intp] = (starts[:, :, None] + np.arange(block)) % length
    return places.reshape(resamples, -1)[:, :length]


def _at_rank(samples: NDArray[np.float64], rank: float) -> NDArray[np.float64]:
    """A percentile of each row."""
    place = nearest_rank(samples.shape[1], rank) - 1
    values: NDArray[np.float64] = np.partition(samples, place, axis=1)[:, place]
    return values


THRESHOLD_PATTERN = re.compile(
    r"(?:(?P<series>\S(?:.*\S)?)\s+)?p(?P<rank>50|90|95|99\.9|99)\s*>\s*\+?(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>%|ms)"
)


@dataclass(frozen=True)
class RegressionThreshold:
    """What breaks a comparison.

    Parameters
    ----------
    text
        As it was written.
    series
        Name of the durations; the whole if None.
    rank
        Of the percentile.
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
                f"--fail-if cannot read {text!r}. Write [SERIES] pNN > +N% or [SERIES] pNN > Nms, with p50, p90, p95, "
                "p99 or p99.9; for example 'p50 > +5%' or 'infer p90 > 400ms'."
            )
        unit: Literal["%", "ms"] = "%" if match["unit"] == "%" else "ms"
        return cls(text.strip(), match["series"], float(match["rank"]), float(match["limit"]), unit)

    def broken_by(self, change: PercentileChange) -> bool:
        """Whether a change of this gate's series and rank breaks it.

        A share is broken by a change that is larger than the limit and significant; an absolute limit by the value.

        Raises
        ------
        UsageError
            If there are too few samples to tell.
        """
        if change.missing:
            raise UsageError(
                f"'{self.text}' cannot be judged: it needs {change.missing} more runs in the shorter record."
            )
        if self.unit == "ms":
            return change.after > self.limit
        return change.significant and change.ratio - 1 > self.limit / 100
