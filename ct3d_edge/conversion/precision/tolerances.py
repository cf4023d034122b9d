"""How far a file may be off in each precision before it is not written."""

from dataclasses import dataclass

from ct3d_edge.conversion.precision import Precision


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
