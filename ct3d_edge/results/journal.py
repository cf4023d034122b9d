"""Records of a run that has not ended, each in the system's hands before the next scan is waited for.

A file of JSON Lines that only ever grows. Whatever kills the process, it holds every record that was appended, and at
most one torn line at its end, which is cut off when the file is opened again.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from ct3d_edge.errors import UsageError
from ct3d_edge.results.formats import parse_record, to_jsonl
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.system.atomic_write import sync_folder, write_failure_message

SYNC_TIME_FRACTION = 0.05
"""Of the time, what may be spent waiting for the disk. A sync takes 1 to 20 ms and a scan some 300, so that every
record is synced; ten thousand empty files are not, and would lose the last moments' records to a power cut."""


class ResultsJournal:
    """An append-only file of records; made if it is not there.

    Whoever opens it must be its only writer, see ``ct3d_edge.system.file_lock``.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UsageError
        If it cannot be read or written, or holds something else than records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        """How many it holds."""
        self._last_sync, self._sync_duration = time.monotonic(), 0.0
        try:
            self._handle = _open_to_append(path)
            sync_folder(path.parent)
        except OSError as error:
            raise write_failure_message(path, error) from error
        try:
            self.size = self._read_existing()
            """Bytes that it holds."""
            self._truncate_partial_line()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.sync()
        finally:
            os.close(self._handle)
            self._handle = -1  # a later write fails, and reaches no other file

    def append(self, record: ResultRecord) -> None:
        """Write a record. It outlives this process; a power cut, once it is synced: see `SYNC_TIME_FRACTION`.

        Raises
        ------
        UsageError
            If it cannot be written, the disk being full for instance. The journal then ends with the record before.
        """
        line = to_jsonl([record]).encode()
        try:
            written = 0
            while written < len(line):
                written += os.write(self._handle, line[written:])
        except OSError as error:
            self._truncate_partial_line()
            raise write_failure_message(self.path, error) from error
        self.size += len(line)
        self.records += 1
        if time.monotonic() - self._last_sync >= self._sync_duration / SYNC_TIME_FRACTION:
            self.sync()

    def sync(self) -> None:
        """Wait until everything appended is on the disk.

        Raises
        ------
        UsageError
            If it cannot be.
        """
        start = time.monotonic()
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise write_failure_message(self.path, error) from error
        self._last_sync = time.monotonic()
        self._sync_duration = self._last_sync - start

    def rotate(self, former: Path) -> None:
        """Go on with an empty file; the one so far becomes ``former``, in place of what is there.

        Raises
        ------
        OutputError, DiskError
            If the disk fails. The journal then goes on with the file so far, whatever its name.
        """
        self.sync()
        try:
            if self.path.exists():  # else an earlier call ended here
                self.path.replace(former)
            handle = _open_to_append(self.path)
            os.close(self._handle)
            self._handle, self.size, self.records = handle, 0, 0
            sync_folder(self.path.parent)
        except OSError as error:
            raise write_failure_message(self.path, error) from error

    def _read_existing(self) -> int:
        """Read all lines; the number of bytes up to the end of the last whole one."""
        size = 0
        for number, line in enumerate(_read_complete_lines(self.path), 1):
            _parse_line(self.path, number, line)
            size += len(line)
            self.records = number
        return size

    def _truncate_partial_line(self) -> None:
        """Take away what is behind the last whole line: the beginning of a record whose writer was killed."""
        try:
            if os.fstat(self._handle).st_size > self.size:
                os.truncate(self._handle, self.size)
        except OSError as error:
            raise write_failure_message(self.path, error) from error


class StartedScans:
    """A file with one line per started scan: a scan may be what killed the process. It stays only after that.

    Parameters
    ----------
    path
        The file; its lines of killed runs are read.

    Raises
    ------
    UsageError
        If it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the last may be torn
            self.earlier = frozenset(str(json.loads(line)) for line in lines)
            """Paths of scans that killed runs had started."""
            self._handle = _open_to_append(path)
        except ValueError as error:
            raise UsageError(f"{path} is not a list of started scans ({error}). Remove it and run again.") from error
        except OSError as error:
            raise write_failure_message(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the file: whatever ended this run, it was no scan."""
        os.close(self._handle)
        self._path.unlink(missing_ok=True)

    def note(self, scans: Iterable[Path]) -> Iterator[Path]:
        """Yield the scans, each noted as started before the caller has it. No sync: a power cut is no scan's fault."""
        for scan in scans:
            line = f"{json.dumps(str(scan))}\n".encode()
            try:
                os.write(self._handle, line)
            except OSError as error:
                raise write_failure_message(self._path, error) from error
            yield scan


def _open_to_append(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)


def read_journal(path: Path) -> Iterator[ResultRecord]:
    """Yield the records of a file of JSON Lines; a last line without an end is left out.

    Raises
    ------
    UsageError
        If the file cannot be read, or a line is no record.
    """
    for number, line in enumerate(_read_complete_lines(path), 1):
        yield _parse_line(path, number, line)


def _read_complete_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error


def _parse_line(path: Path, number: int, line: bytes) -> ResultRecord:
    try:
        return parse_record(line)
    except ValueError as error:
        raise UsageError(
            f"Line {number} of {path} is not a result record of this version of ct3d-edge ({error}), so there is "
            "nothing to go on with. Nothing was changed; move the file away or name another one."
        ) from error
