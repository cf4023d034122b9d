"""Counts, names and sentences as people read them."""

import re
import textwrap
from collections.abc import Mapping, Sequence

from ct3d_edge.errors import UsageError

ELLIPSIS = "..."

DECIMAL_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BINARY_UNITS = {"KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}
"""Bytes of a unit, whose letters are upper-case and without the B."""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Format a count with its noun: ``1 scan``, ``3 scans``; ``nouns`` is a plural that does not end in s."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def format_bytes(count: float) -> str:
    """Format a size in its unit with at most three digits: ``512 B``, ``1.5 kB``, ``22.2 MB``; k is 1000."""
    if count < 1000:
        return f"{count:.0f} B"
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:,.0f} {unit}" if value >= 999.5 else f"{value:.3g} {unit}"


def parse_size(size: int | str | None) -> int | None:
    """Bytes from a number with a unit, as `format_bytes` writes it or in powers of two: ``500MB``, ``1.5 GiB``.

    A whole number is bytes already, and None stays None.

    Raises
    ------
    UsageError
        If it is no size, or nothing.
    """
    if size is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(size).strip())
    unit = (DECIMAL_UNITS | BINARY_UNITS).get(found[2].upper().removesuffix("B")) if found else None
    count = int(float(found[1]) * unit) if found and unit else 0
    if not count:
        raise UsageError(f"A size is a number with a unit, e.g. 500MB or 2GB; found {size!r}.")
    return count


def truncate_middle(text: str, width: int) -> str:
    """Cut a text to ``width`` characters by leaving out its middle."""
    if len(text) <= width:
        return text
    rest = max(width - len(ELLIPSIS), 2)
    return text[: rest // 2] + ELLIPSIS + text[len(text) - (rest - rest // 2) :]


def list_names(names: Sequence[str], most: int = 3) -> str:
    """Format ``a, b, c and 16 more``; one name beyond ``most`` is written, since counting it saves nothing."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def wrap(text: str, width: int, indent: int = 0, *, cut_words: bool = True) -> str:
    """Break lines longer than ``width`` characters between words; the rest of a broken line is indented.

    Words longer than a line are cut, unless ``cut_words`` is False; lines that fit are left as they are.
    """
    lines: list[str] = []
    for line in text.splitlines():
        lead = " " * (len(line) - len(line.lstrip()) + indent)
        broken = textwrap.wrap(line, width, subsequent_indent=lead, break_on_hyphens=False, break_long_words=cut_words)
        lines += broken if len(line) > width else [line]
    return "\n".join(lines)


def format_value(value: object) -> str:
    """Format plain data as one line of text: ``cpu: 696, cuda: none`` for a mapping, commas between items of a list."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {format_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "none"
    return {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def printable(text: str) -> str:
    """Text with what could confuse a terminal made visible: control characters, bytes that are no UTF-8."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return visible.encode("utf-8", "backslashreplace").decode()
