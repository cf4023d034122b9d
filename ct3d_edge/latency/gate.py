"""A limit that a comparison must keep, written as ``p50 > +5%`` or ``infer p90 > 400ms``."""

import re
from dataclasses import dataclass
from typing import Literal

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.compare import Change

FORM = re.compile(
    r"(?:(?P<series>\S(?:.*\S)?)\s+)?p(?P<rank>50|90|95|99\.9|99)\s*>\s*\+?(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>%|ms)"
)


@dataclass(frozen=True)
class Gate:
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
    def parse(cls, text: str) -> "Gate":
        """Read an expression.

        Raises
        ------
        UsageError
            If it is not of the form.
        """
        match = FORM.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"--fail-if cannot read {text!r}. Write [SERIES] pNN > +N% or [SERIES] pNN > Nms, with p50, p90, p95, "
                "p99 or p99.9; for example 'p50 > +5%' or 'infer p90 > 400ms'."
            )
        unit: Literal["%", "ms"] = "%" if match["unit"] == "%" else "ms"
        return cls(text.strip(), match["series"], float(match["rank"]), float(match["limit"]), unit)

    def broken_by(self, change: Change) -> bool:
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
