"""Precisions of a model file, and the limits of the parity check for each."""

from dataclasses import dataclass
from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Types in which a file computes; most bits first."""

Arithmetic = Literal["fp32", "fp16", "bf16", "int8"]
"""Types in which a session computes: that of its file, or bfloat16 where the provider rounds to it (OpenVINO)."""

RequestedPrecision = Literal["fp32", "fp16", "int8", "auto"]
"""Values of `precision=`; ``auto`` becomes one of the others."""

WeightDtype = Literal["fp32", "fp16"]
"""Types in which an fp32 file stores its weights."""


@dataclass(frozen=True)
class PrecisionTolerance:
    """Largest differences that pass.

    Parameters
    ----------
    probability
        Of any probability. A changed label fails whatever the difference.
    tensor
        Of any tensor between input and output, relative to its largest magnitude.
    """

    probability: float
    tensor: float


PRECISION_TOLERANCES: dict[Arithmetic, PrecisionTolerance] = {
    "fp32": PrecisionTolerance(1e-5, 1e-4),
    "fp16": PrecisionTolerance(5e-3, 2e-2),
    "bf16": PrecisionTolerance(2e-2, 1e-1),
    "int8": PrecisionTolerance(2e-2, 3e-1),
}
"""By what a session computes in; of an fp32 file with fp16 weights those of fp16 apply. bf16 has 8 bits of mantissa
where fp16 has 11."""
