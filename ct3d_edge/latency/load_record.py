"""Benchmark records read from their files."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from ct3d_edge.errors import UsageError
from ct3d_edge.json_validation import Finite, convert, parse_object
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import SCHEMA, Arrangement, BenchRecord
from ct3d_edge.latency.system_monitor import SystemSnapshot

OLDEST_SCHEMA = 1
"""An older version that is still read; it lacks the fields that have defaults below."""

Series = dict[str, tuple[Finite, ...]]


class _RecordFile(Struct, forbid_unknown_fields=True):
    """The JSON form, written by `BenchRecord.to_json`."""

    schema: int
    created: str
    question: str
    environment: dict[str, Any]
    conditions: dict[str, Any]
    once_ms: dict[str, Finite]
    warmup_ms: Series
    samples_ms: Series
    incomplete: str | None = None
    clocks: dict[str, tuple[str, ...]] = {}
    arrangement: Arrangement = "stages"
    beside: tuple[str, ...] = ()
    surroundings: tuple[SystemSnapshot, ...] = ()
    resources: dict[str, Finite | None] = {}

    def __post_init__(self) -> None:
        """What the types do not say; a ValueError becomes a `msgspec.ValidationError`."""
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
    """Read what ``BenchRecord.save`` wrote, now or in version 1.

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
