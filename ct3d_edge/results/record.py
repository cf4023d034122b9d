"""One scan's result: what the model said, what was noticed, how it was obtained."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ct3d_edge.scan.qc_flag import QCFlag

SCHEMA = 2
"""Version of the record's JSON form; raised when the meaning of a field changes."""

Key = tuple[str, str, str, str, tuple[str, ...]]
"""What a record depends on: path, SHA-256 of the scan's content, of the model, of the contract; what was allowed."""

BY_CHANCE = frozenset({"not_found", "unreadable", "too_large", "modified_during_read", "timeout", "internal"})
"""Failures that are not in the scan's content: the same content may get an answer next time."""

Status = Literal["ok", "warn", "refused", "error"]


@dataclass(frozen=True)
class Prediction:
    """What the model said.

    Parameters
    ----------
    label
        The class decided on.
    probability
        ``(class, probability)`` in the contract's order, adding up to one.
    threshold
        From which probability of the second of two classes on it was decided; None with more classes.
    """

    label: str
    probability: tuple[tuple[str, float], ...]
    threshold: float | None

    @property
    def confidence(self) -> float:
        """Probability of the class decided on."""
        return dict(self.probability)[self.label]


@dataclass(frozen=True)
class ScanFailure:
    """Why there is no answer: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Timing:
    """Wall time of each stage in ms; a stage that was not reached is None."""

    read: float | None = None
    preprocess: float | None = None
    infer: float | None = None

    @property
    def total(self) -> float:
        """Sum of the stages that ran, in ms."""
        return sum(stage for stage in (self.read, self.preprocess, self.infer) if stage is not None)


def status_of_flags(flags: Iterable[QCFlag]) -> Status:
    """Status of a scan that has an answer."""
    return "warn" if any(flag.severity != "ok" for flag in flags) else "ok"


@dataclass(frozen=True)
class ResultRecord:
    """The result of one scan; exactly one of ``answer`` and ``failure`` is set.

    Parameters
    ----------
    scan
        Path as it was found.
    status
        ``ok``; ``warn``: answered, with something a person should look at; ``refused``: readable, but not for this
        model; ``error``: could not be read.
    answer, failure
        What the model said, or why it was not asked.
    flags
        What was noticed about the scan.
    timing
        Wall times in ms.
    model_sha256, contract_sha256, requested, actual, nodes
        From the session's receipt: more than one provider among ``nodes`` is a fallback that was permitted.
    scan_sha256
        Hash of the scan's bytes as they lie on the disk; None if they could not be read, or there was no file.
    input_sha256
        Hash of the numbers that the network was given; None if it was not asked.
    allowed
        Codes of findings that counted one step less, sorted.
    """

    scan: str
    status: Status
    prediction: Prediction | None
    failure: ScanFailure | None
    flags: tuple[QCFlag, ...]
    timing: Timing
    model_sha256: str
    contract_sha256: str
    requested: str
    actual: str
    nodes: tuple[tuple[str, int], ...]
    scan_sha256: str | None = None
    input_sha256: str | None = None
    allowed: tuple[str, ...] = ()

    @property
    def key(self) -> Key | None:
        """What this record is the result of; None if trying again may give another one."""
        if self.scan_sha256 is None or (self.failure is not None and self.failure.code in BY_CHANCE):
            return None
        return self.scan, self.scan_sha256, self.model_sha256, self.contract_sha256, self.allowed

    @property
    def has_prediction(self) -> bool:
        """Whether the scan has a result."""
        return self.prediction is not None

    def with_flags(self, flags: tuple[QCFlag, ...]) -> "ResultRecord":
        """The record with other findings, and the status that follows; itself if they are the same."""
        if flags == self.flags:
            return self
        return replace(self, status=status_of_flags(flags) if self.has_prediction else self.status, flags=flags)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/results.md."""
        answer, failure = self.prediction, self.failure
        return {
            "schema": SCHEMA,
            "scan": self.scan,
            "scan_sha256": self.scan_sha256,
            "input_sha256": self.input_sha256,
            "status": self.status,
            "label": answer.label if answer else None,
            "probability": dict(answer.probability) if answer else None,
            "threshold": answer.threshold if answer else None,
            "flags": [asdict(flag) for flag in self.flags],
            "allowed": list(self.allowed),
            "error": asdict(failure) if failure else None,
            "timing_ms": {**asdict(self.timing), "total": self.timing.total},
            "model_sha256": self.model_sha256,
            "contract_sha256": self.contract_sha256,
            "provider": {"requested": self.requested, "actual": self.actual, "nodes": dict(self.nodes)},
        }
