"""The folder of a node: instances as they arrive, series that are complete, and what was predicted of them.

::

    SPOOL/receiving/SERIES-UID/SOP-UID.dcm      a series that is still arriving
    SPOOL/receiving/SERIES-UID/SOP-UID_HASH.dcm an instance of the same UID and other content
    SPOOL/series/SERIES-UID-N/SOP-UID.dcm       its N-th arrival, complete; never changed
    SPOOL/series/SERIES-UID-N/.attempts         as many bytes as times that the node ended during its prediction
    SPOOL/series/SERIES-UID-N/.done             its record is written, its report is in the outbox
    SPOOL/reports/SERIES-UID-N.dcm              its report; SERIES-UID-N_2.dcm is that of its second pass
    SPOOL/outbox/AE-TITLE/SERIES-UID-N.dcm      a report that this destination has not accepted yet
    SPOOL/results.jsonl                         the records
    SPOOL/results.1.jsonl                       those of the file before it
    SPOOL/incoming/                             files that are being written; emptied at the start

The state of a series is where its files are. Each step is one rename, so that a node that is killed at any moment finds
every series in one of these states. Files and folders are synced before a peer gets the status of success.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ct3d_edge.node.arrival import DICOM_SUFFIX, Arrival, choose_name, holds_copy, link_missing
from ct3d_edge.scan.dicom.instance_identity import InstanceIdentity, is_uid
from ct3d_edge.system.atomic_write import make_folder, require_writable, sync_folder, write_failure_message
from ct3d_edge.system.file_lock import exclusive_lock

DONE_FILE, ATTEMPTS_FILE = ".done", ".attempts"
IN_USE = "Another node (process {pid}) uses"


class Spool:
    """The folder of one node. Instances may be stored by several threads at the same time.

    Parameters
    ----------
    folder
        Made if it is not there, for this user alone: it holds what identifies patients.

    Raises
    ------
    UsageError, OutputError, DiskError
        If the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.receiving, self.series = folder / "receiving", folder / "series"
        self.reports, self.outbox, self._incoming = folder / "reports", folder / "outbox", folder / "incoming"
        self.results, self.former_results = folder / "results.jsonl", folder / "results.1.jsonl"
        self._lock = threading.Lock()
        self._start = time.time() - time.monotonic()
        self._last_number: dict[str, int] = {}
        self._former_numbers: dict[str, int] = {}
        make_folder(folder)
        for part in (self._incoming, self.receiving, self.series, self.reports, self.outbox):
            make_folder(part)
        require_writable(folder / "test")
        try:
            folder.chmod(0o700)
            shutil.rmtree(self._incoming)
            self._incoming.mkdir()
            sync_folder(folder)
        except OSError as error:
            raise write_failure_message(folder, error) from error
        for arrival in self.arrivals():
            self.reserve(arrival)

    def reserve(self, arrival: Arrival) -> None:
        """Let no further arrival have this number, or a smaller one: a record names it."""
        self._last_number[arrival.series] = max(arrival.number, self._last_number_of(arrival.series))

    def forget_former_numbers(self) -> None:
        """Forget the numbers that nothing has used since the last call, if their series are gone."""
        with self._lock:
            self._former_numbers, self._last_number = self._last_number, {}
        for arrival in self.arrivals():
            self.reserve(arrival)

    def _last_number_of(self, series: str) -> int:
        """The highest number of an arrival; 0 if there was none."""
        return self._last_number.get(series) or self._former_numbers.get(series, 0)

    def free_bytes(self) -> int:
        """Disk space that is left."""
        return shutil.disk_usage(self.folder).free

    @contextmanager
    def write_instance(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A file to write an instance to, which `store` moves to its series; removed if that does not happen.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        handle, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream, path
        finally:
            path.unlink(missing_ok=True)

    def store(self, written: Path, identity: InstanceIdentity, on_stored: Callable[[int], None]) -> bool:
        """Move a synced file to its series and sync the folder; False if that very file is in its latest arrival.

        A file of the same UIDs and other content is stored beside the first: which of them is right is not known, and
        the prediction refuses the series if their pixels differ.

        Parameters
        ----------
        on_stored
            Called with the bytes that the series has grown by, before the series can be completed by another thread.

        Raises
        ------
        OSError
            If the disk fails.
        """
        folder, name = self.receiving / identity.series, identity.instance + DICOM_SUFFIX
        latest = self._latest_folder(identity.series)
        if latest and not (folder / name).exists() and holds_copy(latest, identity.instance, written):
            return False
        with self._lock:
            if not folder.exists():
                folder.mkdir()
                sync_folder(self.receiving)
            name = choose_name(folder, identity.instance, written)
            grown = written.stat().st_size - _size(folder / name)
            written.replace(folder / name)
            handle = os.open(folder, os.O_RDONLY)
            on_stored(grown)
        try:
            os.fsync(handle)  # of the folder, wherever it is by now
        finally:
            os.close(handle)
        return True

    def complete(self, series: str) -> Arrival | None:
        """Make what was received of a series its next arrival, together with the one before; None if there is nothing.

        Raises
        ------
        OSError
            If the disk fails. The series stays where it is.
        """
        with self._lock:
            folder = self.receiving / series
            if _is_empty(folder):
                return None
            arrival = Arrival(series, self._last_number_of(series) + 1)
            if before := self._latest_folder(series):
                link_missing(before, folder, self._incoming)
                sync_folder(folder)
            folder.replace(self.path(arrival))
            sync_folder(self.series)
            sync_folder(self.receiving)
            self.reserve(arrival)
            return arrival

    def received_series(self) -> dict[str, list[Path]]:
        """Files of the series that are still arriving."""
        folders = [folder for folder in self.receiving.iterdir() if is_uid(folder.name) and not _is_empty(folder)]
        return {folder.name: sorted(folder.iterdir()) for folder in folders}

    def arrivals(self) -> list[Arrival]:
        """Complete series in the spool, oldest first."""
        found = [(folder.stat().st_mtime_ns, Arrival.parse(folder.name)) for folder in self.series.iterdir()]
        return [arrival for _, arrival in sorted(found, key=lambda each: each[0]) if arrival is not None]

    def path(self, arrival: Arrival) -> Path:
        """Folder of a complete series."""
        return self.series / arrival.name

    def report_path(self, arrival: Arrival, number: int = 0) -> Path:
        """Where the report of its scan ``number`` is; a series of several passes has several."""
        return self.reports / (arrival.name + (f"_{number + 1}" if number else "") + DICOM_SUFFIX)

    def name_of(self, scan: Path | str) -> str:
        """Name of a scan of a record: that of its arrival, with that of its pass; the spool may have been moved."""
        parts = Path(scan).parts[-2:]
        return "/".join(parts if Arrival.parse(parts[0]) else parts[-1:])

    def is_done(self, arrival: Arrival) -> bool:
        """Whether it has its record, and its report is in the outbox."""
        return (self.path(arrival) / DONE_FILE).exists()

    def count_attempt(self, arrival: Arrival) -> int:
        """How often its prediction was begun and did not end, this time included."""
        file = self.path(arrival) / ATTEMPTS_FILE
        with file.open("ab") as stream:
            stream.write(b".")
            return stream.tell()

    def uncount_attempt(self, arrival: Arrival) -> None:
        """Note that a prediction ended, or was given up with the node: it is not what ended the process."""
        file = self.path(arrival) / ATTEMPTS_FILE
        with suppress(FileNotFoundError):
            os.truncate(file, max(_size(file) - 1, 0))

    def mark_done(self, arrival: Arrival) -> None:
        """Note that nothing is left to do for a series.

        Raises
        ------
        OSError
            If the disk fails.
        """
        file = self.path(arrival) / DONE_FILE
        file.touch()
        os.utime(file, (self._now(), self._now()))
        sync_folder(self.path(arrival))

    def age_s(self, arrival: Arrival) -> float:
        """Seconds since a series was done."""
        return self._now() - (self.path(arrival) / DONE_FILE).stat().st_mtime

    def _now(self) -> float:
        """The time of day at the start, and what has passed since: a clock that is set meanwhile is ignored."""
        return self._start + time.monotonic()

    def remove(self, arrival: Arrival) -> None:
        """Remove a series and its report. The folder is renamed first, so that no half of it is found later."""
        gone = self._incoming / arrival.name
        self.path(arrival).replace(gone)
        with suppress(OSError):
            shutil.rmtree(gone)
        for report in self.reports.glob(f"{arrival.name}[_.]*"):
            report.unlink(missing_ok=True)

    def _latest_folder(self, series: str) -> Path | None:
        """The latest arrival of a series, if it is still in the spool."""
        number = self._last_number_of(series)
        folder = self.path(Arrival(series, number)) if number else None
        return folder if folder is not None and folder.is_dir() else None


@contextmanager
def open_spool(folder: Path) -> Iterator[Spool]:
    """The spool of a folder, which no other node can open until the end.

    Raises
    ------
    UsageError
        If another node has it.
    OutputError, DiskError
        If it cannot be made or written to.
    """
    folder = folder.absolute()
    make_folder(folder)
    with exclusive_lock(folder / "node", f"{IN_USE} {folder}. Stop it, or name another folder with `spool`."):
        yield Spool(folder)


def _is_empty(folder: Path) -> bool:
    """Whether a folder is not there or holds nothing: its first instance could not be moved to it."""
    return not folder.is_dir() or next(folder.iterdir(), None) is None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
