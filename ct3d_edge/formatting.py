"""Counts, names and sentences as people read them."""

import textwrap
from collections.abc import Sequence

ELLIPSIS = "..."


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


def shorten(text: str, width: int) -> str:
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


def wrap(text: str, width: int, indent: int = 0) -> str:
    """Break lines longer than ``width`` characters between words; the rest of a broken line is indented.

    Words longer than a line are cut; lines that fit are left as they are.
    """
    lines: list[str] = []
    for line in text.splitlines():
        lead = " " * (len(line) - len(line.lstrip()) + indent)
        broken = textwrap.wrap(line, width, subsequent_indent=lead, break_on_hyphens=False)
        lines += broken if len(line) > width else [line]
    return "\n".join(lines)
