"""Values of a DICOM data set, checked one by one: writers put anything into any element.

What an element holds does not get into a message here: it may be the patient's.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ct3d_edge.errors import UnreadableScan

LARGEST = 1e7
"""No position (mm), spacing (mm), slope or intercept of a CT is larger."""

DAMAGED = object()
"""What an element holds that is there and cannot be parsed."""


@contextmanager
def quietly() -> Iterator[None]:
    """Without pydicom's warnings: they quote the values that they complain about, and faults are named here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def text(item: Dataset, keyword: str) -> str:
    """An element as text without surrounding space; empty if it is missing or damaged."""
    value = _value(item, keyword)
    return "" if value is None or value is DAMAGED else str(value).strip()


def words(item: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element of one or several, in capitals; none if it is missing or damaged."""
    value = _value(item, keyword)
    if value is None or value is DAMAGED:
        return ()
    parts = [value] if isinstance(value, str) else value
    return tuple(str(part).strip().upper() for part in parts)


def numbers(item: Dataset, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """``count`` finite numbers; None if the element is missing or empty.

    Raises
    ------
    UnreadableScan
        ``bad_header`` if it holds something else; ``name`` is the file's.
    """
    value = _value(item, keyword)
    if value is None:
        return None
    try:
        found = tuple(float(part) for part in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(math.isfinite(part) and abs(part) <= LARGEST for part in found):
        raise UnreadableScan("bad_header", f"{name}: {keyword} is not {count} plausible number(s).")
    return found


def number(item: Dataset, keyword: str, name: str) -> float | None:
    """One number; see `numbers`."""
    found = numbers(item, keyword, 1, name)
    return None if found is None else found[0]


def whole(item: Dataset, keyword: str, name: str) -> int | None:
    """One whole number; see `numbers`."""
    found = number(item, keyword, name)
    if found is not None and found != int(found):
        raise UnreadableScan("bad_header", f"{name}: {keyword} is not a whole number.")
    return None if found is None else int(found)


def items(item: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none if it is missing or damaged."""
    value = _value(item, keyword)
    return list(value) if isinstance(value, Sequence) else []


def _value(item: Dataset, keyword: str) -> Any:
    """What an element holds, or `DAMAGED`; None if it is missing or empty."""
    try:
        value = item.get(keyword)
    except Exception:  # pydicom parses on access, and a damaged value may raise anything
        return DAMAGED
    return None if value == "" else value
