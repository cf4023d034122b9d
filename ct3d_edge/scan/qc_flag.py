"""Quality flags of a scan: a code, a severity and the measured value."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ct3d_edge.errors import RefusedScanError

Severity = Literal["ok", "warn", "refuse"]

DOWNGRADED: dict[Severity, Severity] = {"refuse": "warn", "warn": "ok", "ok": "ok"}


FORMER_CODES = {
    "bad_pixels": "pixel_decode_error",
    "changed": "modified_during_read",
    "coverage": "fov_extent",
    "dicom": "dicom_support_missing",
    "dicom_plugin": "missing_decoder",
    "few_slices": "too_few_slices",
    "hu_range": "intensity_out_of_range",
    "identity_split": "series_split",
    "inverted": "intensity_inverted",
    "misnamed": "extension_mismatch",
    "mixed_slices": "inconsistent_slices",
    "no_image": "no_pixel_data",
    "not_chest": "anatomy_mismatch",
    "not_hu": "intensity_not_hu",
    "oversized": "trailing_data",
    "padding": "pixel_padding",
    "rescale": "missing_rescale",
    "several_series": "multiple_series",
    "several_volumes": "multiple_volumes",
    "side_output": "auxiliary_output_failed",
    "slice_count": "slice_count_shift",
    "timed_out": "timeout",
    "uneven_slices": "nonuniform_spacing",
}
"""Codes of result schema 1 and their present names; ``allow`` takes them too."""


def current_code(code: str) -> str:
    """The present name of a code."""
    return FORMER_CODES.get(code, code)


@dataclass(frozen=True)
class QCFlag:
    """One quality flag of a scan.

    Parameters
    ----------
    code
        Stable, machine-readable, e.g. ``"non_finite"``.
    severity
        ``"ok"``: for information; ``"warn"``: a person should look; ``"refuse"``: no model is run on the scan.
    detail
        A sentence with the measured value.
    value
        The measured value; None if there is none.
    """

    code: str
    severity: Severity
    detail: str
    value: float | str | None = None


def duplicate_flag(first: str) -> QCFlag:
    """The flag of a scan with the same network input as an earlier one."""
    return QCFlag("duplicate", "warn", f"The network input is identical to that of {first}.", first)


def apply_overrides(flags: Iterable[QCFlag], allowed: Collection[str]) -> tuple[QCFlag, ...]:
    """Flags with the ``allowed`` codes downgraded: refuse becomes warn, warn becomes ok."""
    return tuple(replace(flag, severity=DOWNGRADED[flag.severity]) if flag.code in allowed else flag for flag in flags)


def raise_if_refused(flags: Iterable[QCFlag]) -> None:
    """Raise an error for the first flag with the severity ``refuse``.

    Raises
    ------
    RefusedScanError
        With the flag's code and detail.
    """
    for flag in flags:
        if flag.severity == "refuse":
            raise RefusedScanError(flag.code, flag.detail)
