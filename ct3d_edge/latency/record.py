"""A measurement as data: every sample, and the conditions it was taken under."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.system_monitor import SystemSnapshot
from ct3d_edge.system.atomic_write import atomic_file

SCHEMA = 2
"""Version of the JSON form; raised when the meaning of a field changes."""

Arrangement = Literal["stages", "in turn", "blocks"]
"""``stages`` follow each other in every run and add up to it. Contestants run ``in turn``, so that sample n of each is
from the same round, or in ``blocks``, one contestant after the other."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class BenchRecord:
    """One measurement.

    Parameters
    ----------
    question
        What was measured, in a line.
    environment
        The machine and versions, from ``describe_machine``.
    conditions
        Everything else the figures depend on: receipt, inputs, options.
    once
        Durations in ms of what happens only once.
    samples
        Every duration of what was repeated.
    clocks
        Names for sums of stages, from the innermost to the whole: ``{"file to decision": ("read", "infer")}``.
    arrangement
        What the names in ``samples`` are: see ``Arrangement``.
    surroundings
        The machine before, during and after.
    resources
        Memory in bytes, CPU seconds, energy in joules: name to value, None for what could not be read.
    incomplete
        Why there are fewer samples than were asked for; None if there are not.
    created
        When it was made, in ISO 8601.
    """

    question: str
    environment: Mapping[str, Any]
    conditions: Mapping[str, Any]
    once: Mapping[str, float]
    samples: Samples
    clocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arrangement: Arrangement = "stages"
    surroundings: tuple[SystemSnapshot, ...] = ()
    resources: Mapping[str, float | None] = field(default_factory=dict)
    incomplete: str | None = None
    created: str = field(default_factory=_now)

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.created)

    def series(self) -> dict[str, tuple[float, ...]]:
        """Durations by name, in ms: stages or contestants, then clocks, or the total where stages have no clock."""
        counted = self.samples.counted
        if self.arrangement != "stages":
            return dict(counted)
        if not self.clocks:
            return {**counted, "total": self.samples.total}
        sums = {
            name: tuple(map(sum, zip(*(counted[stage] for stage in stages if stage in counted), strict=True)))
            for name, stages in self.clocks.items()
        }
        return {**counted, **sums}

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that add up to a run: those of the widest clock, or all."""
        return [*self.clocks.values(), *([] if self.clocks else [tuple(self.samples.counted)])][-1]

    @property
    def headline_series(self) -> tuple[str, ...]:
        """Names of the series that stand for the record: the widest clock or the total, or each contestant."""
        names = tuple(self.series())
        return names[-1:] if self.arrangement == "stages" else names

    def to_json(self) -> str:
        """Indented JSON, without NaN."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "created": self.created,
                "incomplete": self.incomplete,
                "question": self.question,
                "environment": dict(self.environment),
                "conditions": dict(self.conditions),
                "once_ms": dict(self.once),
                "clocks": dict(self.clocks),
                "arrangement": self.arrangement,
                "beside": self.samples.excluded_stages,
                "warmup_ms": dict(self.samples.warmup),
                "samples_ms": dict(self.samples.counted),
                "surroundings": [asdict(snapshot) for snapshot in self.surroundings],
                "resources": dict(self.resources),
            },
            indent=1,
            allow_nan=False,
        )

    def save(self, path: Path) -> None:
        """Write the record; complete or not at all."""
        with atomic_file(path) as stream:
            stream.write(self.to_json().encode() + b"\n")


class PartialResultError(Exception):
    """A measurement failed or was interrupted; its cause is the failure.

    Parameters
    ----------
    record
        What was measured until then.
    """

    def __init__(self, record: BenchRecord) -> None:
        super().__init__(record.incomplete)
        self.record = record

    def __reduce__(self) -> "tuple[type[PartialResultError], tuple[BenchRecord]]":
        """Pickle with the record, which ``args`` does not hold."""
        return type(self), (self.record,)


@contextmanager
def keep_partial_result(record: Callable[[str], BenchRecord]) -> Iterator[None]:
    """Turn any end but the regular one into a `PartialResultError` with the record made for its reason."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        reason = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        raise PartialResultError(record(reason)) from error
