"""What must be alike in two records before their durations mean anything beside each other."""

from collections.abc import Mapping
from typing import Any

from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.surroundings import disturbances

MUST_MATCH = ("architecture", "cpu", "cpu_flags", "cores_usable", "cores_present", "cgroup_cpu_max", "governor")
"""Of the environment: another machine, or this one with other limits."""

INPUTS = ("scans", "order", "scenario", "configurations")
"""Of the conditions: other work."""

WORTH_SAYING = ("platform", "memory", "python", "packages")
"""Of the environment; that one of them changed is often the very question."""


def obstacles(before: BenchRecord, after: BenchRecord) -> list[str]:
    """Why two records must not be compared, a clause each."""
    found = [] if before.question == after.question else [f"question: {before.question!r} and {after.question!r}"]
    found += _differences(before.environment, after.environment, MUST_MATCH)
    return found + _differences(before.conditions, after.conditions, INPUTS)


def remarks(before: BenchRecord, after: BenchRecord) -> list[str]:
    """What else differs or was odd, a sentence each; whoever compares should know it."""
    found = [f"Differs: {text}" for text in _differences(before.environment, after.environment, WORTH_SAYING)]
    others = sorted((set(before.conditions) | set(after.conditions)) - set(INPUTS))
    found += [f"Differs: {text}" for text in _differences(before.conditions, after.conditions, others)]
    for name, record in (("first", before), ("second", after)):
        found += [f"The {name} record is incomplete: {record.incomplete}"] if record.incomplete else []
        found += [f"During the {name} record {text}." for text in disturbances(record.surroundings)]
    return found


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, ...] | list[str], prefix: str = ""
) -> list[str]:
    found = []
    for name in names:
        one, other = before.get(name), after.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, sorted(one.keys() | other.keys()), f"{prefix}{name}.")
        elif one != other:
            found.append(f"{prefix}{name}: {_short(one)} and {_short(other)}")
    return found


def _short(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
