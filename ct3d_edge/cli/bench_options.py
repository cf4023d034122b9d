"""How the words after the options of ``bench`` become numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.benchmark import Plan

SECONDS = {"": 1, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600}
AXES = ("threads", "batch")
LARGEST = 4096

BUDGET_S = 60.0
"""Of a precision, where no budget is given."""


@dataclass(frozen=True)
class Amounts:
    """How much to measure, as far as it was said."""

    runs: int | None
    precision: float | None
    budget_s: float | None

    def plan(self, runs: int) -> "Plan":
        """So many runs if none were named; with a precision as few as have an interval."""
        from ct3d_edge.benchmark import Plan
        from ct3d_edge.latency import FEWEST, Until

        if self.precision is None:
            return Plan(self.runs or runs, Until(None, self.budget_s))
        return Plan(self.runs or FEWEST, Until(self.precision, self.budget_s or BUDGET_S))


def share(option: str, text: str | None) -> float | None:
    """``2%`` as 0.02.

    Raises
    ------
    UsageError
        If it is no percentage above 0 and below 100.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if match is None or not 0 < float(match[1]) < 100:
        raise UsageError(f"{option} takes a percentage above 0 and below 100, such as 2%; found {text!r}.")
    return float(match[1]) / 100


def seconds(option: str, text: str | None) -> float | None:
    """``60s``, ``2m`` or ``90`` in seconds.

    Raises
    ------
    UsageError
        If it is no time above 0.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)\s*", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{option} takes a time above 0, such as 500ms, 60s or 2m; found {text!r}.")
    return float(match[1]) * SECONDS[match[2]]


def axes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """``threads=1,2`` and ``batch=1,2,4`` as numbers by axis.

    Raises
    ------
    UsageError
        If an axis is unknown or named twice, or a number is not from 1 to 4096 or comes twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, _, values = text.replace(" ", "").partition("=")
        numbers = tuple(int(value) for value in values.split(",") if value.isascii() and value.isdigit())
        sound = (
            len(numbers) == len(values.split(",")) == len(set(numbers)) and 1 <= min(numbers) <= max(numbers) <= LARGEST
        )
        if name not in AXES or name in found or not sound:
            raise UsageError(
                f"--sweep takes threads=1,2 or batch=1,2,4, each axis once, different numbers from 1 to {LARGEST}; "
                f"found {text!r}."
            )
        found[name] = numbers
    return found
