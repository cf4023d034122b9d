"""A published file, whole or to be continued: resumed, retried, counted and hashed as it arrives."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.atomic import atomic_file
from ct3d_edge.datasets.published.disk import disk_errors, size_of
from ct3d_edge.datasets.published.mosmed import Source
from ct3d_edge.datasets.published.progress import Moved, Noted, OnEvent, silent
from ct3d_edge.datasets.published.web import Answer, Changed, Interrupted, Refused, Version, open_file
from ct3d_edge.errors import DownloadError

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK = 1 << 18


@dataclass(frozen=True)
class Patience:
    """How long a failing server is put up with.

    Parameters
    ----------
    attempts
        Requests at most, 1 or more.
    timeout
        Seconds of silence after which one is given up.
    pause
        Seconds before the second attempt; doubled before each further one.
    """

    attempts: int = 6
    timeout: float = 30.0
    pause: float = 1.0


class PartFile:
    """The bytes of a download so far and, in a file beside them, which version of the file they began.

    Parameters
    ----------
    path
        Where the bytes are.
    url
        Where they come from; bytes from elsewhere are not continued.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        self._origin = path.with_name(f"{path.name}.json")

    def version(self) -> Version | None:
        """Version of the file that the bytes belong to; None if that is not known."""
        try:
            origin = json.loads(self._origin.read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(origin, dict) or origin.get("url") != self.url:
            return None
        return Version.of(origin.get("etag"), origin.get("last_modified"))

    def held(self, total: int) -> int:
        """Bytes of ``total`` that need not be fetched again: none where a changed file could not be told."""
        size, version = size_of(self.path), self.version()
        known = version is not None and (version.condition is not None or size == total)
        return size if known and size <= total else 0

    def start_over(self, version: Version) -> None:
        """Begin an empty file of ``version``."""
        self.path.write_bytes(b"")
        with atomic_file(self._origin) as stream:
            stream.write(json.dumps({"url": self.url, **asdict(version)}).encode())

    def remove(self) -> None:
        """Remove the bytes and what is known of them."""
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            self._origin.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give the complete file its name."""
        with disk_errors(path):
            self.path.replace(path)
            self._origin.unlink(missing_ok=True)


def download(source: Source, part: PartFile, patience: Patience, on_event: OnEvent = silent) -> str:
    """Complete ``part`` and return the SHA-256 of all its bytes in hexadecimal.

    Raises
    ------
    DownloadError
        If the server refuses, declares or sends another size than the published one, or fails too often. What has
        arrived is kept as far as it can be continued.
    UsageError
        If the file cannot be written.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            with disk_errors(part.path):
                return _attempt(source, part, patience.timeout, on_event)
        except Refused as error:
            raise DownloadError(f"Asked for {source.url}: {error}. {_otherwise(source, part)}") from error
        except Interrupted as error:
            if attempt >= patience.attempts:
                raise _given_up(source, part, attempt, error) from error
            pause = patience.pause * 2 ** (attempt - 1)
            on_event(Noted(f"{source.archive}: {error}; trying again in {pause:g} s"))
            time.sleep(pause)


def _given_up(source: Source, part: PartFile, attempts: int, error: Interrupted) -> DownloadError:
    held = part.held(source.bytes)
    return DownloadError(
        f"Asked for {source.url}: {error}, at attempt {attempts} of {attempts}. {held:,} of {source.bytes:,} bytes are "
        f"here: run the same command again to go on. {_otherwise(source, part)}"
    )


def _otherwise(source: Source, part: PartFile) -> str:
    return (
        f"If that address does not work here, put the file there as {part.path.with_name(source.archive)} by other "
        "means and run the same command again."
    )


def _attempt(source: Source, part: PartFile, timeout: float, on_event: OnEvent) -> str:
    """One request at most, for what is missing."""
    held = part.held(source.bytes)
    digest = _hash_so_far(part.path, held)
    if held == source.bytes:
        return digest.hexdigest()
    try:
        with open_file(source.url, start=held, version=part.version(), timeout=timeout) as answer:
            _require_size(answer, source)
            if answer.start == 0:
                _say_if_lost(held, source, on_event)
                part.start_over(answer.version)
                digest = hashlib.sha256()
            _append(answer, source, part, digest, on_event)
    except Changed:
        part.remove()
        raise
    return digest.hexdigest()


def _hash_so_far(path: Path, held: int) -> "_Hash":
    if not held:
        return hashlib.sha256()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")


def _require_size(answer: Answer, source: Source) -> None:
    """Before anything is lost: a portal's page or another release must not replace what is here."""
    if answer.total is not None and answer.total != source.bytes:
        raise Refused(
            f"the server declares {answer.total:,} bytes where {source.bytes:,} are published, so it is another file"
        )


def _say_if_lost(held: int, source: Source, on_event: OnEvent) -> None:
    if held:
        on_event(Noted(f"{source.archive}: changed on the server, or the server cannot resume; starting over"))


def _append(answer: Answer, source: Source, part: PartFile, digest: "_Hash", on_event: OnEvent) -> None:
    """Write what arrives behind what is there."""
    done = answer.start
    with part.path.open("ab") as stream:
        # One byte more than is published shows that the server has more, without taking it.
        while block := answer.read(min(BLOCK, source.bytes + 1 - done)):
            done += len(block)
            if done > source.bytes:
                break
            stream.write(block)
            digest.update(block)
            on_event(Moved(f"Downloading {source.archive}", done, source.bytes))
    if done > source.bytes:
        part.remove()
        raise Refused(f"the server sent more than the {source.bytes:,} bytes that are published, so it is another file")
    if done < source.bytes:
        raise Interrupted(f"the connection ended after {done:,} of {source.bytes:,} bytes")
