"""A rewritten graph in fewer bits: float16 arithmetic, float16 weights, or 8-bit integers."""
