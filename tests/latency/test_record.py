import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.latency import BenchRecord, Samples

RECORD = BenchRecord(
    question="How long does a scan take?",
    environment={"cpu": "some", "packages": {"numpy": "2"}},
    conditions={"inputs": ["a.nii"], "threads": 2},
    once={"load": 12.5},
    samples=Samples({"infer": (9.5,)}, {"infer": (1 / 3, 2.0), "read": (0.1, 0.2)}),
)


def test_json_brings_back_every_sample() -> None:
    data = json.loads(RECORD.to_json())
    created = datetime.fromisoformat(data.pop("created"))
    assert created.tzinfo == UTC
    assert data == {
        "schema": 1,
        "question": "How long does a scan take?",
        "environment": {"cpu": "some", "packages": {"numpy": "2"}},
        "conditions": {"inputs": ["a.nii"], "threads": 2},
        "once_ms": {"load": 12.5},
        "warmup_ms": {"infer": [9.5]},
        "samples_ms": {"infer": [1 / 3, 2.0], "read": [0.1, 0.2]},
    }


def test_a_saved_record_is_its_json(tmp_path: Path) -> None:
    RECORD.save(tmp_path / "record.json")
    text = (tmp_path / "record.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text)["samples_ms"] == json.loads(RECORD.to_json())["samples_ms"]


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot write"):
        RECORD.save(tmp_path / "nowhere" / "record.json")
