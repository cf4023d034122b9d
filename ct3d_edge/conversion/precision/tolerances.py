"""The precisions of a file, and how far it may be off in each before it is not written."""

from dataclasses import dataclass
from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""In what a file computes; most bits first."""

RequestedPrecision = Literal["fp32", "fp16", "int8", "auto"]
"""What may be asked for; ``auto`` becomes one of the others."""

WeightDtype = Literal["fp32", "fp16"]
"""In what an fp32 file stores its weights."""


@dataclass(frozen=True)
class PrecisionTolerance:
    """Largest differences that pass.

    Parameters
    ----------
    probability
        Of any probability; no label may flip, whatever it is.
    tensor
        Of any tensor between input and output, as a part of that tensor's largest magnitude.
    """

    probability: float
    tensor: float


PRECISION_TOLERANCES: dict[Precision, PrecisionTolerance] = {
    "fp32": PrecisionTolerance(1e-5, 1e-4),
    "fp16": PrecisionTolerance(5e-3, 2e-2),
    "int8": PrecisionTolerance(2e-2, 3e-1),
}
"""Of the arithmetic that a file uses or, where that is float32, of the numbers its weights are stored in."""
