"""A folder into which somebody else writes scans: which of them are whole, and not reported yet.

The folder is looked through again and again. Notifications of the system (inotify and its kin) would be quicker by a
second, but they are not sent for what another machine writes to a network drive, overflow in silence, and say when a
file was closed, not that its copy was complete; whether a file stays as it is must be watched over time in any case.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.scan.discovery import list_scans
from ct3d_edge.scan.fingerprint import FileStamp

INCOMPLETE_WAIT_FACTOR = 10
"""Times the usual wait for an empty file, or half a .hdr/.img pair: what is missing may still come."""


@dataclass(frozen=True)
class _FileState:
    stamp: FileStamp
    unchanged_since: float
    reported: bool


class WatchedFolder:
    """The scans of a folder, each reported once when it has not changed for a while, and again after it changed.

    Names that copying programs use for unfinished files (hidden, or with another ending than a scan's) do not count.

    Parameters
    ----------
    folder
        Searched with its subfolders.
    settle
        Seconds for which size, time and inode of a scan's files must stay as they are.
    clock
        Seconds of a clock that only goes forward.
    """

    def __init__(self, folder: Path, settle: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.settle = folder, settle
        self._clock = clock
        self._seen: dict[Path, _FileState] = {}

    @property
    def pending(self) -> int:
        """Scans that were there at the last look and are not reported yet."""
        return sum(not seen.reported for seen in self._seen.values())

    def __contains__(self, scan: Path) -> bool:
        return scan in self._seen

    def poll(self) -> list[Path]:
        """Look through the folder; the scans that became whole since the last look, oldest first.

        Raises
        ------
        UsageError
            If the folder is gone or cannot be searched. What was seen before is still known at the next look.
        """
        now, found = self._clock(), list(list_scans(self.folder))
        self._seen = {scan: self._update(scan, now) for scan in found}
        whole = [scan for scan, seen in self._seen.items() if not seen.reported and self._is_stable(seen, now)]
        for scan in whole:
            self._seen[scan] = _FileState(self._seen[scan].stamp, self._seen[scan].unchanged_since, reported=True)
        return sorted(whole, key=lambda scan: (self._seen[scan].stamp.last_modified_ns, scan))

    def _update(self, scan: Path, now: float) -> _FileState:
        stamp, before = FileStamp.of(scan), self._seen.get(scan)
        return before if before is not None and before.stamp == stamp else _FileState(stamp, now, reported=False)

    def _is_stable(self, seen: _FileState, now: float) -> bool:
        wait = self.settle if seen.stamp.complete else INCOMPLETE_WAIT_FACTOR * self.settle
        return now - seen.unchanged_since >= wait
