"""What a search for series looks for, and what it skips."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SeriesQuery:
    """What to search for.

    Parameters
    ----------
    series
        UID of the only series to take, even one that would be skipped, or ``UID#PASS``; None for every scan.
    by_uid
        Folders whose series are named by their UIDs even where there is only one.
    """

    series: str | None = None
    by_uid: frozenset[Path] = frozenset()

    def accepts(self, *names: str) -> bool:
        """Whether a series of these names is looked for."""
        return self.series is None or self.series in names


@dataclass(frozen=True)
class SkippedFile:
    """What is skipped in a folder: a stable code and a reason in words."""

    path: Path
    code: str
    reason: str
