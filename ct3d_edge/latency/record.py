"""A measurement as data: every sample, and the conditions it was taken under."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ct3d_edge.atomic import atomic_file
from ct3d_edge.latency.measure import Samples

SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""


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
    """

    question: str
    environment: Mapping[str, Any]
    conditions: Mapping[str, Any]
    once: Mapping[str, float]
    samples: Samples

    def to_json(self) -> str:
        """Indented JSON with the moment of writing."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "question": self.question,
                "environment": dict(self.environment),
                "conditions": dict(self.conditions),
                "once_ms": dict(self.once),
                "warmup_ms": dict(self.samples.warmup),
                "samples_ms": dict(self.samples.counted),
            },
            indent=1,
        )

    def save(self, path: Path) -> None:
        """Write the record; complete or not at all."""
        with atomic_file(path) as stream:
            stream.write(self.to_json().encode() + b"\n")
