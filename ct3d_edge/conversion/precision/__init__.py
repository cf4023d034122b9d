"""A rewritten graph in fewer bits: float16 arithmetic, float16 weights, or 8-bit integers."""

from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]
"""In what a file computes."""

AskedPrecision = Literal["fp32", "fp16", "int8", "auto"]
"""What may be asked for; ``auto`` becomes one of the others."""

Weights = Literal["fp32", "fp16"]
"""In what an fp32 file stores its weights."""
