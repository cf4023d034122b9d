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
from datetime import date
from functools import lru_cache
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import plural

MAX_ABS_VALUE = 1e7
"""No position (mm), spacing (mm), slope or intercept of a CT is larger."""

DAMAGED_VALUE = object()
"""What an element holds that is there and cannot be parsed."""

_MATCH_ALL = "(?s:.*)"
"""Written so that no other filter is taken for this one."""

_MATCH_ALL_PATTERN = re.compile(_MATCH_ALL, re.IGNORECASE)
"""How `warnings.filterwarnings` keeps it."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without the warnings of pydicom and the warnings and log lines of highdicom, in whatever thread.

    They quote the values that they complain about, and faults are named here.
    """
    _WARNING_FILTER.begin()
    try:
        yield
    finally:
        _WARNING_FILTER.end()


class _WarningFilter:
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
            warnings.filterwarnings("ignore", message=_MATCH_ALL)

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                filters = cast("list[tuple[object, ...]]", warnings.filters)
                filters[:] = [entry for entry in filters if entry[1] != _MATCH_ALL_PATTERN]
                self._log.setLevel(self._level)


_WARNING_FILTER = _WarningFilter()


def read_text(item: Dataset, keyword: str) -> str:
    """An element as text without surrounding space; empty if it is missing or damaged."""
    value = _read_value(item, keyword)
    return "" if value is None or value is DAMAGED_VALUE else str(value).strip()


def read_code_strings(item: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element of one or several, in capitals; none if it is missing or damaged."""
    value = _read_value(item, keyword)
    if value is None or value is DAMAGED_VALUE:
        return ()
    parts = [value] if isinstance(value, str) else value
    return tuple(str(part).strip().upper() for part in parts)


def read_numbers(item: Dataset, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """``count`` finite numbers; None if the element is missing or empty.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` if it holds something else; ``name`` is the file's.
    """
    value = _read_value(item, keyword)
    if value is None:
        return None
    try:
        found = tuple(float(part) for part in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(math.isfinite(part) and abs(part) <= MAX_ABS_VALUE for part in found):
        raise UnreadableScanError("bad_header", f"{name}: {keyword} does not hold {plural(count, 'plausible number')}.")
    return found


def read_number(item: Dataset, keyword: str, name: str) -> float | None:
    """One number; see `read_numbers`."""
    found = read_numbers(item, keyword, 1, name)
    return None if found is None else found[0]


def read_integer(item: Dataset, keyword: str, name: str) -> int | None:
    """One whole number; see `read_numbers`."""
    found = read_number(item, keyword, name)
    if found is not None and found != int(found):
        raise UnreadableScanError("bad_header", f"{name}: {keyword} is not a whole number.")
    return None if found is None else int(found)


def read_order_number(item: Dataset, keyword: str) -> float | None:
    """A number or a time of day, ``HHMMSS.F``, that only orders slices; None if it is missing or no number."""
    try:
        found = float(read_text(item, keyword))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def read_day(item: Dataset, keyword: str) -> int | None:
    """A date, ``YYYYMMDD`` or ``YYYY.MM.DD``, as the number of its day; None if it is missing or no date."""
    try:
        return date.fromisoformat(read_text(item, keyword).replace(".", "")).toordinal()
    except ValueError:
        return None


def read_sequence(item: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none if it is missing or damaged."""
    value = _read_value(item, keyword)
    return list(value) if isinstance(value, Sequence) else []


def _read_value(item: Dataset, keyword: str) -> Any:
    """What an element holds, or `DAMAGED_VALUE`; None if it is missing or empty."""
    tag = _find_tag(keyword)
    if tag not in item:  # by keyword, pydicom would raise and catch an exception for each element that is missing
        return None
    try:
        value = item[tag].value
    except Exception:  # pydicom parses on access, and a damaged value may raise anything
        return DAMAGED_VALUE
    return None if value == "" else value


@lru_cache(None)
def _find_tag(keyword: str) -> BaseTag:
    return Tag(keyword)
