"""What was noticed about a scan: named, graded, with the measured value."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ct3d_edge.errors import RefusedScan

Severity = Literal["ok", "warn", "refuse"]

LOWERED: dict[Severity, Severity] = {"refuse": "warn", "warn": "ok", "ok": "ok"}


@dataclass(frozen=True)
class Finding:
    """One observation about a scan.

    Parameters
    ----------
    code
        Stable, machine-readable, e.g. ``"non_finite"``.
    severity
        ``"ok"`` for the record only, ``"warn"`` if a person should look, ``"refuse"`` if the model must not judge.
    detail
        One plain sentence with the measured value.
    value
        What was measured, or None where there is nothing to measure.
    """

    code: str
    severity: Severity
    detail: str
    value: float | str | None = None


def permit(findings: Iterable[Finding], allowed: Collection[str]) -> tuple[Finding, ...]:
    """Findings with those of the ``allowed`` codes one step milder: refuse becomes warn, warn becomes ok."""
    return tuple(
        replace(finding, severity=LOWERED[finding.severity]) if finding.code in allowed else finding
        for finding in findings
    )


def require_sound(findings: Iterable[Finding]) -> None:
    """Stop at the first finding for which a model must not judge.

    Raises
    ------
    RefusedScan
        With its code and sentence.
    """
    for finding in findings:
        if finding.severity == "refuse":
            raise RefusedScan(finding.code, finding.detail)
