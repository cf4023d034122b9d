"""What a search for series looks for, and what it skips."""

from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.scan.qc_flag import QCFlag


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


@dataclass(frozen=True)
class SearchFlag:
    """A quality flag of a scan that only a search shows, as it depends on other scans."""

    path: Path
    flag: QCFlag


SearchEntry = Path | SkippedFile | SearchFlag
"""A scan by its name, what is skipped, or a quality flag of a scan."""
