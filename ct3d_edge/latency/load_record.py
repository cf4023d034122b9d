"""Records read back, strictly: every field there, none unknown, every duration a number."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import SCHEMA, Arrangement, BenchRecord
from ct3d_edge.latency.system_monitor import SystemSnapshot

T = TypeVar("T")

OLDEST_SCHEMA = 1
"""An older version that is still read; it lacks the fields below, which stand for what it meant."""

ADDED_FIELDS: dict[str, Any] = {
    "incomplete": None,
    "clocks": {},
    "arrangement": "stages",
    "beside": [],
    "surroundings": [],
    "resources": {},
}
RECORD_FIELDS = (
    "created",
    "question",
    "environment",
    "conditions",
    "once_ms",
    "warmup_ms",
    "samples_ms",
    *ADDED_FIELDS,
)


def read_record(path: Path) -> BenchRecord:
    """Read what ``BenchRecord.save`` wrote, now or in version 1.

    Raises
    ------
    UsageError
        If the file cannot be read, is no record, is one of another version, or is damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a benchmark record: it is not valid JSON ({error}).") from error
    if not isinstance(data, dict) or "samples_ms" not in data:
        raise UsageError(f"{path} is not a benchmark record. `ct3d-edge bench --out FILE` writes one.")
    version = data.pop("schema", None)
    if version not in (OLDEST_SCHEMA, SCHEMA):
        raise UsageError(
            f"{path} has schema version {version!r}; this ct3d-edge reads versions {OLDEST_SCHEMA} to {SCHEMA}. "
            "Measure again, or use the ct3d-edge version that wrote it."
        )
    try:
        return _parse({**ADDED_FIELDS, **data} if version == OLDEST_SCHEMA else data)
    except _DamagedError as error:
        raise UsageError(f"{path} is a damaged benchmark record: {error}.") from error


class _DamagedError(Exception):
    pass


def _parse(data: dict[str, Any]) -> BenchRecord:
    if set(data) != set(RECORD_FIELDS):
        _fail(f"missing {sorted(set(RECORD_FIELDS) - set(data))}, unknown {sorted(set(data) - set(RECORD_FIELDS))}")
    return BenchRecord(
        question=_text(data, "question"),
        environment=_mapping(data, "environment"),
        conditions=_mapping(data, "conditions"),
        once={name: _number(value, "once_ms") for name, value in _mapping(data, "once_ms").items()},
        samples=_samples(data),
        clocks=_clocks(data),
        arrangement=_arrangement(data),
        surroundings=tuple(_snapshot(entry) for entry in _of_type(data, "surroundings", list)),
        resources={
            name: None if value is None else _number(value, "resources")
            for name, value in _mapping(data, "resources").items()
        },
        incomplete=None if data["incomplete"] is None else _text(data, "incomplete"),
        created=_moment(data),
    )


def _samples(data: dict[str, Any]) -> Samples:
    warmup, counted = _series(data, "warmup_ms"), _series(data, "samples_ms")
    beside = tuple(str(name) for name in _of_type(data, "beside", list))
    if unknown := sorted(set(beside) - set(counted) - set(warmup)):
        _fail(f"beside names {unknown}, of which there are no samples")
    if data["arrangement"] != "blocks" and any(len(set(map(len, part.values()))) > 1 for part in (warmup, counted)):
        _fail("stages have different numbers of runs")
    return Samples(warmup, counted, beside)


def _clocks(data: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    clocks, known = {}, {*_mapping(data, "samples_ms"), *_mapping(data, "warmup_ms")}
    for name, stages in _mapping(data, "clocks").items():
        clocks[name] = tuple(map(str, stages)) if isinstance(stages, list) else ()
        # A measurement that broke off in its first run has no stages yet.
        if known and (unknown := sorted(set(clocks[name]) - known)):
            _fail(f"clocks.{name} names {unknown}, of which there are no samples")
    return clocks


def _series(data: dict[str, Any], name: str) -> dict[str, tuple[float, ...]]:
    series = {}
    for stage, values in _mapping(data, name).items():
        if not isinstance(values, list):
            _fail(f"{name}.{stage} is not a list")
        series[stage] = tuple(_number(value, f"{name}.{stage}") for value in values)
    return series


def _snapshot(entry: object) -> SystemSnapshot:
    names = {field.name for field in fields(SystemSnapshot)}
    if not isinstance(entry, dict) or set(entry) != names:
        _fail(f"an entry of surroundings does not have the fields {sorted(names)}")
    required = {"at_s", "own_s"}
    values = {
        name: None if value is None and name not in required else _number(value, f"surroundings.{name}")
        for name, value in entry.items()
    }
    return SystemSnapshot(**values)  # type: ignore[arg-type]


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _fail(f"{where} holds {value!r} instead of a number")
    return value


def _text(data: dict[str, Any], name: str) -> str:
    return _of_type(data, name, str)


def _mapping(data: dict[str, Any], name: str) -> Mapping[str, Any]:
    return _of_type(data, name, dict)


def _of_type(data: dict[str, Any], name: str, kind: type[T]) -> T:
    if not isinstance(data[name], kind):
        _fail(f"{name} is {data[name]!r:.60}, not of type {kind.__name__}")
    value: T = data[name]
    return value


def _arrangement(data: dict[str, Any]) -> Arrangement:
    known = get_args(Arrangement)
    if data["arrangement"] not in known:
        _fail(f"arrangement is {data['arrangement']!r}, not one of {', '.join(known)}")
    found: Arrangement = data["arrangement"]
    return found


def _moment(data: dict[str, Any]) -> str:
    text = _text(data, "created")
    try:
        if datetime.fromisoformat(text).tzinfo is None:
            _fail(f"created has no time zone: {text!r}")
    except ValueError:
        _fail(f"created is not a moment: {text!r}")
    return text


def _fail(what: str) -> NoReturn:
    raise _DamagedError(what)
