"""What was noticed about a scan: named, graded, with the measured value in words."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warn", "refuse"]


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
    """

    code: str
    severity: Severity
    detail: str
