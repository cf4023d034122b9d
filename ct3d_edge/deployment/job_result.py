"""What a job reports of a study: ``result.json``, with the keys that mercure reserves if it runs there."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ct3d_edge.errors import UsageError
from ct3d_edge.results.record import ResultRecord, ScanFailure, ScanStatus
from ct3d_edge.system.atomic_write import atomic_file

RESULT_FILE = "result.json"
RESULT_SCHEMA = 1
"""Version of the file; raised when the meaning of a field changes."""

SEVERITY: tuple[ScanStatus, ...] = ("ok", "warn", "refused", "error")
FailOn = Literal["refused", "error", "never"]
"""From which status on a job fails."""

DISCARD = "discard"
"""As a target: mercure dispatches nothing."""


@dataclass(frozen=True)
class JobResult:
    """The answers for one study.

    Parameters
    ----------
    records
        One for each scan.
    failure
        Why the study has no scan; None if it has some.
    software
        Name and version.
    skipped
        Whether a study without scans has files, of which none is a scan for this model.
    """

    records: tuple[ResultRecord, ...]
    failure: ScanFailure | None
    software: str
    skipped: bool = False

    @property
    def status(self) -> ScanStatus:
        """The worst of all scans; without any ``refused`` if files were skipped, else ``error``."""
        empty: ScanStatus = "refused" if self.skipped else "error"
        return max((record.status for record in self.records), key=SEVERITY.index, default=empty)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Predicted classes and statuses, each once: what notifications and targets go by."""
        labels = (record.prediction.label for record in self.records if record.prediction)
        statuses = (record.status for record in self.records)
        return tuple(dict.fromkeys((*labels, *statuses, self.status)))

    def fails(self, fail_on: FailOn) -> bool:
        """Whether the job is to end with an exit code other than 0."""
        return fail_on != "never" and SEVERITY.index(self.status) >= SEVERITY.index(fail_on)

    def describe(self) -> str:
        """One line for people, without paths and without the patient."""
        if self.failure:
            return " ".join(self.failure.message.split())
        return "; ".join(map(_describe, self.records))

    def probability(self, label: str) -> float | None:
        """The probability of a class in the only scan of the study; None if that has no prediction.

        Raises
        ------
        UsageError
            If there are several scans with a prediction, or the model has no such class.
        """
        answered = [record.prediction for record in self.records if record.prediction]
        if len(answered) > 1:
            raise UsageError(f"{len(answered)} scans have a prediction; a single probability belongs to a single scan.")
        if not answered:
            return None
        probability = dict(answered[0].probability)
        if label not in probability:
            raise UsageError(f"The model has no class {label!r}; it has {', '.join(probability)}.")
        return probability[label]

    def to_dict(self, files: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON form, documented in docs/deployment.md; ``files`` were written beside it."""
        return {
            "schema": RESULT_SCHEMA,
            "software": self.software,
            "status": self.status,
            "summary": self.describe(),
            "error": {"code": self.failure.code, "message": self.failure.message} if self.failure else None,
            "scans": [record.to_dict() for record in self.records],
            "files": list(files),
        }


def mercure_keys(result: JobResult, notify: Collection[str], targets: Mapping[str, str]) -> dict[str, Any]:
    """The keys of ``result.json`` by which mercure notifies people and chooses targets.

    Parameters
    ----------
    notify
        Outcomes of which people are notified.
    targets
        Outcome to name of a target; the first that occurred counts. `DISCARD` sends nothing.
    """
    text = f"{result.status}: {result.describe()}"
    requested = any(outcome in notify for outcome in result.outcomes)
    keys: dict[str, Any] = {"__mercure_notification": {"text": text, "requested": requested}}
    target = next((target for outcome, target in targets.items() if outcome in result.outcomes), None)
    if target is not None:
        keys["__mercure_routing"] = {"discard": True} if target == DISCARD else {"target": target}
    return keys


def write_json(path: Path, content: object) -> None:
    """Write JSON, complete or not at all.

    Raises
    ------
    UsageError, OutputError, DiskError
        If it cannot be written.
    """
    with atomic_file(path) as stream:
        stream.write(json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def parse_assignments(texts: Sequence[str], option: str, example: str) -> dict[str, str]:
    """Texts such as ``abnormal=URGENT`` as a dictionary.

    Raises
    ------
    UsageError
        If one has another form.
    """
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (name, _, value) in zip(texts, pairs, strict=True) if not (name and value)]:
        raise UsageError(f"{option} takes {example}, found {wrong[0]!r}.")
    return {name: value for name, _, value in pairs}


def _describe(record: ResultRecord) -> str:
    if record.prediction:
        return f"{record.prediction.label} {record.prediction.confidence:.4f}"
    return f"{record.status} ({record.failure.code if record.failure else ''})"
