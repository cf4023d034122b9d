"""Benchmark records: every sample of a measurement, its conditions and the environment."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from ct3d_edge.errors import UsageError
from ct3d_edge.json_validation import Finite, convert, parse_object
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.system_monitor import SystemSnapshot
from ct3d_edge.system.atomic_write import atomic_file

SCHEMA = 2
"""Version of the JSON form; raised when the meaning of a field changes."""

OLDEST_SCHEMA = 1
"""An older version that is still read; it lacks the fields that have defaults in `_RecordFile`."""

Arrangement = Literal["stages", "in turn", "blocks"]
"""``stages``: parts of every run that add up to it. ``in turn``: contestants that are interleaved, so that sample n of
each is from the same round. ``blocks``: one contestant after the other."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class BenchRecord:
    """One measurement.

    Parameters
    ----------
    question
        What was measured, in one line.
    environment
        The machine and versions, from ``describe_machine``.
    conditions
        Other conditions of the measurement: run report, inputs, options.
    once
        Durations in ms of what happens once.
    samples
        Durations of repeated runs.
    clocks
        Names for sums of stages, from the innermost to the whole: ``{"file to decision": ("read", "infer")}``.
    arrangement
        Meaning of the names in ``samples``: see `Arrangement`.
    surroundings
        Snapshots of the machine before, during and after the measurement.
    resources
        Memory in bytes, CPU seconds, energy in joules; None for what the system does not report.
    incomplete
        Why there are fewer samples than requested; None if there are not.
    created
        Time of the measurement, in ISO 8601.
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
        """Time of the measurement."""
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
        """Names of the series that summarise the record: the widest clock or the total, or each contestant."""
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


FileSeries = dict[str, tuple[Finite, ...]]


class _RecordFile(Struct, forbid_unknown_fields=True):
    """The JSON form, written by `BenchRecord.to_json`."""

    schema: int
    created: str
    question: str
    environment: dict[str, Any]
    conditions: dict[str, Any]
    once_ms: dict[str, Finite]
    warmup_ms: FileSeries
    samples_ms: FileSeries
    incomplete: str | None = None
    clocks: dict[str, tuple[str, ...]] = {}
    arrangement: Arrangement = "stages"
    beside: tuple[str, ...] = ()
    surroundings: tuple[SystemSnapshot, ...] = ()
    resources: dict[str, Finite | None] = {}

    def __post_init__(self) -> None:
        """Checks of more than one field; a ValueError becomes a `msgspec.ValidationError`."""
        if datetime.fromisoformat(self.created).tzinfo is None:
            raise ValueError(f"created has no time zone: {self.created!r}")
        series = (self.warmup_ms, self.samples_ms)
        if self.arrangement != "blocks" and any(len(set(map(len, part.values()))) > 1 for part in series):
            raise ValueError("stages have different numbers of runs")
        stages = {*self.warmup_ms, *self.samples_ms}
        _require_samples("beside", self.beside, stages)
        for name, clock in self.clocks.items() if stages else ():  # none if it was interrupted in its first run
            _require_samples(f"clocks.{name}", clock, stages)


def _require_samples(name: str, stages: tuple[str, ...], known: set[str]) -> None:
    if unknown := sorted(set(stages) - known):
        raise ValueError(f"{name} names {unknown}, of which there are no samples")


def read_record(path: Path) -> BenchRecord:
    """Read a file of `BenchRecord.save`, of this version or of version 1.

    Raises
    ------
    UsageError
        If the file cannot be read, is no record, is one of another version, or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    data = parse_object(content, f"The benchmark record {path}", UsageError)
    _require_version(path, data)
    file = convert(data, _RecordFile, f"The benchmark record {path}", UsageError)
    return BenchRecord(
        question=file.question,
        environment=file.environment,
        conditions=file.conditions,
        once=file.once_ms,
        samples=Samples(file.warmup_ms, file.samples_ms, file.beside),
        clocks=file.clocks,
        arrangement=file.arrangement,
        surroundings=file.surroundings,
        resources=file.resources,
        incomplete=file.incomplete,
        created=file.created,
    )


def _require_version(path: Path, data: Mapping[str, Any]) -> None:
    if "samples_ms" not in data:
        raise UsageError(f"{path} is not a benchmark record. `ct3d-edge bench --out FILE` writes one.")
    if data.get("schema") not in (OLDEST_SCHEMA, SCHEMA):
        raise UsageError(
            f"{path} has schema version {data.get('schema')!r}; this ct3d-edge reads versions {OLDEST_SCHEMA} to "
            f"{SCHEMA}. Measure again, or use the ct3d-edge version that wrote it."
        )


class PartialResultError(Exception):
    """A measurement failed or was interrupted; its cause is the failure.

    Parameters
    ----------
    record
        The measurement until then.
    """

    def __init__(self, record: BenchRecord) -> None:
        super().__init__(record.incomplete)
        self.record = record

    def __reduce__(self) -> "tuple[type[PartialResultError], tuple[BenchRecord]]":
        """Pickle with the record, which ``args`` does not hold."""
        return type(self), (self.record,)


@contextmanager
def keep_partial_result(record: Callable[[str], BenchRecord]) -> Iterator[None]:
    """Raise a `PartialResultError` with the record so far for any exception; ``record`` takes the reason."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        reason = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        raise PartialResultError(record(reason)) from error
