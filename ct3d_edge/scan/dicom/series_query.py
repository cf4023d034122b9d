"""What a search for series is after, and what it passes over."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SeriesQuery:
    """What to search for.

    Parameters
    ----------
    series
        UID of the only series to take, even one that would be passed over; None for every scan.
    by_uid
        Folders whose series are named by their UIDs even where there is only one.
    """

    series: str | None = None
    by_uid: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class SkippedFile:
    """Something in a folder that is DICOM and no scan to predict: a stable code and a reason in words."""

    path: Path
    code: str
    reason: str
