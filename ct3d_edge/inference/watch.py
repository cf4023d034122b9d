"""Poll a folder for new scans that are completely written.

The folder is polled. Notifications of the system (inotify and the like) would be a second faster, but they miss files
that another machine writes to a network drive, overflow silently, and report that a file was closed, not that its copy
is complete: a file has to be observed over time in any case.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.scan.discovery import list_scans
from ct3d_edge.scan.loader import FileStamp
from ct3d_edge.scan.qc_flag import QCFlag

INCOMPLETE_WAIT_FACTOR = 10
"""Factor of the usual wait for an empty file or half of a .hdr/.img pair: the rest may still come."""


@dataclass(frozen=True)
class _FileState:
    stamp: FileStamp
    unchanged_since: float
    reported: bool


class WatchedFolder:
    """The scans of a folder, each reported once when it has not changed for a while, and again after a change.

    Names that copying programs give unfinished files (hidden, or with another suffix than a scan's) are ignored.

    Parameters
    ----------
    folder
        Searched with its subfolders.
    stable_for
        Seconds for which size, time and inode of a scan's files must not change.
    clock
        A monotonic clock, in seconds.
    """

    def __init__(self, folder: Path, stable_for: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.stable_for = folder, stable_for
        self._clock = clock
        self._seen: dict[Path, _FileState] = {}
        self.flags: Mapping[str, Collection[QCFlag]] = {}
        """Quality flags of the last search, by scan."""

    @property
    def pending(self) -> int:
        """Scans that were in the folder at the last poll and are not reported yet."""
        return sum(not seen.reported for seen in self._seen.values())

    def __contains__(self, scan: Path) -> bool:
        return scan in self._seen

    def poll(self) -> list[Path]:
        """Search the folder; the scans that became complete since the last poll, oldest first.

        Raises
        ------
        UsageError
            If the folder is gone or cannot be searched. The state is unchanged for the next poll.
        """
        now, search = self._clock(), list_scans(self.folder)
        self.flags = search.flags
        self._seen = {scan: self._update(scan, now) for scan in search.scans}
        complete = [scan for scan, seen in self._seen.items() if not seen.reported and self._is_stable(seen, now)]
        for scan in complete:
            self._seen[scan] = _FileState(self._seen[scan].stamp, self._seen[scan].unchanged_since, reported=True)
        return sorted(complete, key=lambda scan: (self._seen[scan].stamp.last_modified_ns, scan))

    def _update(self, scan: Path, now: float) -> _FileState:
        stamp, before = FileStamp.of(scan), self._seen.get(scan)
        return before if before is not None and before.stamp == stamp else _FileState(stamp, now, reported=False)

    def _is_stable(self, seen: _FileState, now: float) -> bool:
        wait = self.stable_for if seen.stamp.complete else INCOMPLETE_WAIT_FACTOR * self.stable_for
        return now - seen.unchanged_since >= wait
