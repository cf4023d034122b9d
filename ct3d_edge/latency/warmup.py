"""Warm-up detection: how many of the first runs are slower than those that follow, and are not counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class WarmupCriterion:
    """Warm up until two successive blocks of runs are on one level.

    Parameters
    ----------
    block
        Runs in a block.
    limit
        Warm-up runs after which counting begins though no level was found.
    """

    block: int = 5
    limit: int = 50


def count_warmup_runs(durations: Sequence[float], block: int = WarmupCriterion.block) -> int | None:
    """Number of runs before the first two successive blocks on one level; None if there are no such blocks.

    Two blocks are on one level if each one's median lies within the other's range. That needs no assumption about the
    distribution or the size of its noise: of two blocks of five from one distribution it holds in 5 cases of 7, and a
    change larger than the noise never passes. A change smaller than the noise does; drift of the counted runs shows it.

    A median does not see one or two slow runs of five: those at the start of the first block that are slower than all
    of the second are counted as well.
    """
    for start in range(len(durations) - 2 * block + 1):
        middle = start + block
        first, second = durations[start:middle], durations[middle : middle + block]
        if _same_level(first, second):
            return start + next((n for n, duration in enumerate(first) if duration <= max(second)), block)
    return None


def _same_level(one: Sequence[float], other: Sequence[float]) -> bool:
    return min(one) <= median(other) <= max(one) and min(other) <= median(one) <= max(other)
