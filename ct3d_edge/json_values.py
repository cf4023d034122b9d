"""What a value from JSON is, told strictly: true is no number, NaN is none, and lists become tuples."""

from typing import Any

LARGEST_NUMBER = 1e9
"""Of a size that HU, millimetres and probabilities have."""


def is_int(value: object) -> bool:
    """Whether it is a whole number, and not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a number of a usual size; NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def frozen(value: Any) -> Any:
    """Lists as tuples, those inside of them as well."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value
