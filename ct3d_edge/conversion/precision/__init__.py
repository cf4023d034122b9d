"""A rewritten graph in fewer bits: float16 arithmetic, float16 weights, or 8-bit integers."""

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""In what a file computes; most bits first."""

RequestedPrecision = Literal["fp32", "fp16", "int8", "auto"]
"""What may be asked for; ``auto`` becomes one of the others."""

WeightDtype = Literal["fp32", "fp16"]
"""In what an fp32 file stores its weights."""
