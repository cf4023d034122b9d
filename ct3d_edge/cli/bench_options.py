"""How the words after the options of ``bench`` become numbers."""

import re

from ct3d_edge.errors import UsageError

SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def share(option: str, text: str | None) -> float | None:
    """``2%`` as 0.02.

    Raises
    ------
    UsageError
        If it is no percentage above 0 and below 100.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if match is None or not 0 < float(match[1]) < 100:
        raise UsageError(f"{option} takes a percentage above 0 and below 100, such as 2%; found {text!r}.")
    return float(match[1]) / 100


def seconds(option: str, text: str | None) -> float | None:
    """``60s``, ``2m`` or ``90`` in seconds.

    Raises
    ------
    UsageError
        If it is no time above 0.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|)\s*", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{option} takes a time above 0, such as 60s or 2m; found {text!r}.")
    return float(match[1]) * SECONDS[match[2]]
