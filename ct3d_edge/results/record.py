"""One scan's result: prediction, quality flags, and how they were obtained."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ct3d_edge.scan.qc_flag import QCFlag

RECORD_SCHEMA = 2
"""Version of the record's JSON form; raised when the meaning of a field changes."""

RecordKey = tuple[str, str, str, str, tuple[str, ...]]
"""What a record depends on: path, SHA-256 of the scan's content, of the model, of the contract; downgraded checks."""

TRANSIENT_FAILURES = frozenset(
    {"not_found", "unreadable", "too_large", "modified_during_read", "timeout", "internal", "worker_died"}
)
"""Failures that are not in the scan's content: the same content may get a prediction next time."""

ScanStatus = Literal["ok", "warn", "refused", "error"]


@dataclass(frozen=True)
class Prediction:
    """Output of the model for one scan.

    Parameters
    ----------
    label
        The predicted class.
    probability
        ``(class, probability)`` in the contract's order, adding up to one.
    threshold
        The second of two classes is predicted from this probability on; None with more classes.
    """

    label: str
    probability: tuple[tuple[str, float], ...]
    threshold: float | None

    @property
    def confidence(self) -> float:
        """Probability of the predicted class."""
        return dict(self.probability)[self.label]


@dataclass(frozen=True)
class ScanFailure:
    """Why there is no prediction: a stable code and a sentence."""

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


def status_of_flags(flags: Iterable[QCFlag]) -> ScanStatus:
    """Status of a scan that has a prediction."""
    return "warn" if any(flag.severity != "ok" for flag in flags) else "ok"


@dataclass(frozen=True)
class ResultRecord:
    """The result of one scan; exactly one of ``prediction`` and ``failure`` is set.

    Parameters
    ----------
    scan
        Path as it was found.
    status
        ``ok``; ``warn``: has a prediction and a quality flag that a person should look at; ``refused``: readable, but
        not for this model; ``error``: could not be read.
    prediction, failure
        Output of the model, or why it was not run.
    flags
        Quality flags of the scan.
    timing
        Wall times in ms.
    model_sha256, contract_sha256, requested, actual, nodes
        From the session's run report: more than one provider among ``nodes`` is a fallback that was permitted.
    scan_sha256
        Hash of the scan's file; None if it could not be read, or there was no file.
    input_sha256
        Hash of the network's input; None if it was not run.
    precision
        In what the session computed: ``fp32``, ``bf16``, ``int8`` ...; None in records of schema 1.
    allowed
        Codes of flags that were downgraded, sorted.
    """

    scan: str
    status: ScanStatus
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
    precision: str | None = None

    @property
    def key(self) -> RecordKey | None:
        """What this record depends on; None if trying again may give another one."""
        if self.scan_sha256 is None or (self.failure is not None and self.failure.code in TRANSIENT_FAILURES):
            return None
        return self.scan, self.scan_sha256, self.model_sha256, self.contract_sha256, self.allowed

    @property
    def has_prediction(self) -> bool:
        """Whether the scan has a result."""
        return self.prediction is not None

    def describe(self) -> str:
        """Status, prediction or failure, codes of flags and time, in one line of a log."""
        if self.prediction:
            codes = ", ".join(dict.fromkeys(flag.code for flag in self.flags))
            outcome = f"{self.prediction.label} {self.prediction.confidence:.4f} {codes}".rstrip()
        else:
            outcome = f"{self.failure.code}: {self.failure.message}" if self.failure else ""
        return f"{self.status} {outcome} ({self.timing.total:.0f} ms)"

    def with_flags(self, flags: tuple[QCFlag, ...]) -> "ResultRecord":
        """The record with other flags, and the status that follows; itself if they are the same."""
        if flags == self.flags:
            return self
        return replace(self, status=status_of_flags(flags) if self.has_prediction else self.status, flags=flags)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/results.md."""
        prediction, failure = self.prediction, self.failure
        return {
            "schema": RECORD_SCHEMA,
            "scan": self.scan,
            "scan_sha256": self.scan_sha256,
            "input_sha256": self.input_sha256,
            "status": self.status,
            "label": prediction.label if prediction else None,
            "probability": dict(prediction.probability) if prediction else None,
            "threshold": prediction.threshold if prediction else None,
            "flags": [asdict(flag) for flag in self.flags],
            "allowed": list(self.allowed),
            "error": asdict(failure) if failure else None,
            "timing_ms": {**asdict(self.timing), "total": self.timing.total},
            "model_sha256": self.model_sha256,
            "contract_sha256": self.contract_sha256,
            "provider": {
                "requested": self.requested,
                "actual": self.actual,
                "nodes": dict(self.nodes),
                "precision": self.precision,
            },
        }
