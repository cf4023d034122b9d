import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord, PartialResultError, keep_partial_result, read_record
from ct3d_edge.latency.system_monitor import SystemSnapshot

RECORD = BenchRecord(
    question="How long does a scan take?",
    environment={"cpu": "some", "packages": {"numpy": "2"}},
    conditions={"inputs": ["a.nii"], "threads": 2},
    once={"load": 12.5},
    samples=Samples({"infer": (9.5,), "read": (3.0,)}, {"infer": (1 / 3, 2.0), "read": (0.1, 0.2)}, ("read",)),
    clocks={"infer": ("infer",), "whole": ("read", "infer")},
    surroundings=(SystemSnapshot(0.0, 1.5, load=0.25), SystemSnapshot(1.0, 2.5, busy_s=3.5, mhz=2000.0, throttled=2)),
    resources={"resident memory added by the model, bytes": 5.0, "energy, J": None},
)
RESULTS = Path(__file__).parents[2] / "bench" / "results"


def test_json_has_every_sample() -> None:
    data = json.loads(RECORD.to_json())
    created = datetime.fromisoformat(data.pop("created"))
    assert created.tzinfo == UTC
    assert data["samples_ms"] == {"infer": [1 / 3, 2.0], "read": [0.1, 0.2]}
    assert data["warmup_ms"] == {"infer": [9.5], "read": [3.0]}
    assert (data["schema"], data["incomplete"], data["once_ms"]) == (2, None, {"load": 12.5})


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    RECORD.save(tmp_path / "record.json")
    assert (tmp_path / "record.json").read_text().endswith("}\n")
    assert read_record(tmp_path / "record.json") == RECORD
    broken_off = replace(RECORD, incomplete="out of memory in run 3", arrangement="in turn")
    broken_off.save(tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == broken_off


def test_every_record_of_durations_in_the_repository_can_be_read() -> None:
    every = [(path, json.loads(path.read_text())) for path in sorted(RESULTS.glob("*.json"))]
    durations = [(path, data) for path, data in every if "samples_ms" in data]
    assert durations
    for path, data in durations:
        record = read_record(path)
        assert {name: list(values) for name, values in record.samples.counted.items()} == data["samples_ms"], path
        assert record.created == data["created"], path


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot write"):
        RECORD.save(tmp_path / "nowhere" / "record.json")


def changed(tmp_path: Path, **changes: Any) -> Path:
    """``RECORD`` as a file with other values in some fields; ``...`` leaves a field out."""
    data = {**json.loads(RECORD.to_json()), **changes}
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not ...}))
    return path


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": 3}, "schema version 3; this ct3d-edge reads versions 1 to 2"),
        ({"schema": ...}, "schema version None"),
        ({"samples_ms": ...}, "not a benchmark record"),
        ({"once_ms": ...}, "missing required field `once_ms`"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"created": "yesterday"}, "invalid isoformat string: 'yesterday'"),
        ({"created": "2026-01-01T00:00:00"}, "no time zone"),
        ({"question": 7}, "question: expected `str`, found 7"),
        ({"arrangement": "mixed"}, "arrangement: invalid enum value 'mixed'"),
        ({"samples_ms": {"infer": [1, "2"]}}, r"samples_ms\[\.\.\.\]\[1\]: expected `float`, got `str`"),
        ({"samples_ms": {"infer": [float("nan")]}}, "NaN is not JSON"),
        ({"samples_ms": {"infer": [True]}}, "expected `float`, got `bool`"),
        ({"samples_ms": {"infer": 3}}, r"samples_ms\[\.\.\.\]: expected `array`, got `int`"),
        ({"samples_ms": {"infer": [1, 2], "decide": [3], "read": [1, 2]}}, "stages have different numbers of runs"),
        ({"beside": ["dream"]}, r"beside names \['dream'\], of which there are no samples"),
        ({"clocks": {"whole": ["read", "dream"]}}, r"clocks.whole names \['dream'\], of which there are no samples"),
        ({"surroundings": [{"at_s": 0}]}, r"surroundings\[0\]: object missing required field `own_s`"),
        ({"resources": {"peak": "big"}}, r"resources\[\.\.\.\]: expected `float \| null`, got `str`"),
        ({"environment": []}, r"environment: expected `object`, found \[\]"),
    ],
)
def test_a_damaged_record_is_named_with_what_is_wrong(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        read_record(changed(tmp_path, **changes))
    assert "changed.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", "null"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=r"is not valid JSON|is a JSON"):
        read_record(tmp_path / "x.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*absent.json: No such file"):
        read_record(tmp_path / "absent.json")


def test_a_record_of_version_1_means_what_it_meant(tmp_path: Path) -> None:
    added = dict.fromkeys(("incomplete", "arrangement", "clocks", "beside", "surroundings", "resources"), ...)
    record = read_record(changed(tmp_path, schema=1, **added))
    bare = Samples(RECORD.samples.warmup, RECORD.samples.counted)
    assert record == replace(RECORD, samples=bare, clocks={}, surroundings=(), resources={})


def test_a_clock_is_the_sum_of_its_stages_run_by_run() -> None:
    assert RECORD.series() == {"infer": (1 / 3, 2.0), "read": (0.1, 0.2), "whole": (1 / 3 + 0.1, 2.2)}


def test_without_clocks_the_stages_and_their_total_are_the_series() -> None:
    assert replace(RECORD, clocks={}).series() == {"infer": (1 / 3, 2.0), "read": (0.1, 0.2), "total": (1 / 3, 2.0)}
    assert list(replace(RECORD, clocks={}, arrangement="in turn").series()) == ["infer", "read"]


def test_the_widest_clock_stands_for_a_record_or_each_contestant() -> None:
    assert RECORD.headline_series == ("whole",)
    assert replace(RECORD, clocks={}).headline_series == ("total",)
    assert replace(RECORD, arrangement="blocks").headline_series == ("infer", "read")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("too large"), "too large"),
        (MemoryError(), "MemoryError()"),
        (KeyboardInterrupt(), "it was interrupted"),
    ],
)
def test_what_breaks_off_leaves_a_record_and_its_cause(error: BaseException, reason: str) -> None:
    def record(incomplete: str) -> BenchRecord:
        return replace(RECORD, incomplete=incomplete)

    with pytest.raises(PartialResultError) as caught, keep_partial_result(record):
        raise error
    assert caught.value.record.incomplete == reason
    assert caught.value.__cause__ is error
