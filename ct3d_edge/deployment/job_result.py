"""What a job reports of a study: ``result.json``, with the keys that mercure reserves if it runs there."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import add
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from ct3d_edge.errors import UsageError
from ct3d_edge.results.record import Prediction, ResultRecord, ScanFailure, ScanStatus
from ct3d_edge.scan.discovery import scan_name
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
    """The results of one study.

    Parameters
    ----------
    records
        One for each scan.
    failure
        Why the study has no scan, or why a result that was asked for cannot be given; else None.
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
        """The worst of all scans; of a study's failure ``error``, or ``refused`` if files were skipped."""
        if self.failure or not self.records:
            return "refused" if self.skipped else "error"
        return max((record.status for record in self.records), key=SEVERITY.index)

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
        """One line for people, without paths and without what a file says of the patient.

        With the codes of flags, and the names of scans if there are several.
        """
        failures = [" ".join(self.failure.message.split())] if self.failure else []
        names = [f"{scan_name(Path(record.scan))}: " for record in self.records] if len(self.records) > 1 else [""]
        return "; ".join((*failures, *map(add, names, map(_describe, self.records))))

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """Of the scans that have one."""
        return tuple(record.prediction for record in self.records if record.prediction)

    def require_single_prediction(self) -> "JobResult":
        """The result, with the failure ``several_predictions`` if several scans share the one probability asked for."""
        if len(self.predictions) < 2:
            return self
        message = f"{len(self.predictions)} scans have a prediction; a single probability belongs to a single scan."
        return replace(self, failure=ScanFailure("several_predictions", message))

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


def parse_probabilities(texts: Sequence[str]) -> dict[str, str]:
    """The file of each class, a plain name.

    Raises
    ------
    UsageError
        If a text has another form, or a file would lie elsewhere or replace another result.
    """
    files = parse_assignments(texts, "--probability", "CLASS=FILE")
    for name in files.values():
        if name == ".." or PureWindowsPath(name).name != name or not name.isprintable():
            raise UsageError(f"--probability takes the plain name of a file in --out, found {name!r}.")
        if name.lower() == RESULT_FILE:
            raise UsageError(f"--probability cannot take {name}, which holds the whole result. Choose another name.")
    if twice := [name for name, count in Counter(files.values()).items() if count > 1]:
        raise UsageError(f"--probability names {twice[0]} for several classes. Choose a file for each.")
    return files


def require_labels(labels: Collection[str], model_labels: Sequence[str]) -> None:
    """Make sure that the model has the classes of which a probability is asked.

    Raises
    ------
    UsageError
        If it does not.
    """
    if unknown := [label for label in labels if label not in model_labels]:
        raise UsageError(f"The model has no class {unknown[0]!r}; it has {', '.join(model_labels)}.")


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
        codes = ", ".join(dict.fromkeys(flag.code for flag in record.flags))
        return f"{record.prediction.label} {record.prediction.confidence:.4f}" + (f" ({codes})" if codes else "")
    return f"{record.status} ({record.failure.code if record.failure else ''})"
