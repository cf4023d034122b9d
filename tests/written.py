"""Files that version 0.1 wrote, and what is the same when they are made again; see tests/fixtures/v0_1/README.md."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ct3d_edge.scan.qc_flag import current_code

V0_1 = Path(__file__).parent / "fixtures" / "v0_1"
WITHIN = 1e-5
"""By which a probability may differ: other processors and runtimes round otherwise."""

SAME = ("scan", "scan_sha256", "status", "label", "threshold", "allowed", "model_sha256", "contract_sha256")
"""Fields of a record that the same scan, model and options give again."""


def records_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def as_schema_2(record: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 as it is written since: findings are flags, and some codes have other names."""
    flags = [{**flag, "code": current_code(flag["code"])} for flag in record.pop("findings")]
    error = record["error"] and {**record["error"], "code": current_code(record["error"]["code"])}
    allowed = sorted(map(current_code, record["allowed"]))
    provider = {**record["provider"], "precision": None}
    return {**record, "provider": provider, "schema": 2, "flags": flags, "error": error, "allowed": allowed}


def earlier(path: Path) -> list[dict[str, Any]]:
    """Records of a file of schema 1, as they are written since."""
    return [as_schema_2(record) for record in records_of(path.read_text())]


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same records but for times, provider and rounding."""
    for one, other in zip(found, expected, strict=True):
        assert {name: one[name] for name in SAME} == {name: other[name] for name in SAME}
        assert one["probability"] == (other["probability"] and pytest.approx(other["probability"], abs=WITHIN))
        for part in ("code", "severity"):
            assert [entry[part] for entry in one["flags"]] == [entry[part] for entry in other["flags"]]
        assert (one["error"] and one["error"]["code"]) == (other["error"] and other["error"]["code"])


def figures_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """Figures of a test without the intervals, which are drawn."""

    def leaves(value: Any, name: str) -> Iterator[tuple[str, float]]:
        if isinstance(value, dict | list):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in parts:
                yield from leaves(part, f"{name}/{key}")
        elif isinstance(value, int | float) and not name.endswith(("/low", "/high", "/resamples")):
            yield name, value

    return dict(leaves(evaluation["figures"], ""))
