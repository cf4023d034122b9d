"""Values of a DICOM data set, checked one by one: writers put anything into any element.

What an element holds does not get into a message here: it may be the patient's.
"""

import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ct3d_edge.errors import UnreadableScan
from ct3d_edge.formatting import plural

LARGEST = 1e7
"""No position (mm), spacing (mm), slope or intercept of a CT is larger."""

DAMAGED = object()
"""What an element holds that is there and cannot be parsed."""

_ANYTHING = "(?s:.*)"
"""Written so that no other filter is taken for this one."""

_FILTERED = re.compile(_ANYTHING, re.IGNORECASE)
"""How `warnings.filterwarnings` keeps it."""


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings of pydicom and the warnings and log lines of highdicom, in whatever thread.

    They quote the values that they complain about, and faults are named here.
    """
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


class _Silence:
    """Filter and log level, which all threads share: they come with the first block and go with the last one.

    `warnings.catch_warnings` would put back what another thread had made of the filters meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._log = logging.getLogger("highdicom")
        self._level = logging.NOTSET

    def begin(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._level = self._log.level
                self._log.setLevel(logging.CRITICAL)
            self._blocks += 1
            # Each time: a library that catches warnings in another thread may have taken the filter away.
            warnings.filterwarnings("ignore", message=_ANYTHING)

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                filters = cast("list[tuple[object, ...]]", warnings.filters)
                filters[:] = [entry for entry in filters if entry[1] != _FILTERED]
                self._log.setLevel(self._level)


_SILENCE = _Silence()


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
        raise UnreadableScan("bad_header", f"{name}: {keyword} does not hold {plural(count, 'plausible number')}.")
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
