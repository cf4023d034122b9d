"""One published file over HTTPS: resumed after a break, retried, and never longer than it was published."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, responses
from importlib import metadata
from pathlib import Path
from typing import IO
from urllib import request
from urllib.error import HTTPError, URLError

from ct3d_edge.errors import DownloadError
from ct3d_edge.formatting import printable
from ct3d_edge.system.atomic_write import DISK_ERRNOS, write_failure_message

LOGGER = logging.getLogger("ct3d_edge.datasets")

ATTEMPTS = 6
TIMEOUT_S = 30.0  # without a byte from the server
PAUSE_S = 1.0  # before the second attempt; doubled before each further one
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
RANGE_NOT_SATISFIABLE = 416
BLOCK_BYTES = 1 << 18

HANDLERS: tuple[type[request.BaseHandler], ...] = (
    request.ProxyHandler,
    request.HTTPSHandler,
    request.HTTPRedirectHandler,
    request.HTTPDefaultErrorHandler,
    request.HTTPErrorProcessor,
    request.UnknownHandler,
)
"""Without those for http, ftp and files, which ``urllib.request.build_opener`` would add."""

OnProgress = Callable[[str, int, int], None]
"""Called with a step, e.g. ``"Downloading CT-0"``, the bytes that are done and the bytes in all."""


@dataclass(frozen=True)
class RemoteArchive:
    """One published zip archive with the scans of one class."""

    name: str  # of the class, and of the folder that the scans go to
    url: str
    bytes: int
    sha256: str | None = None  # in hexadecimal, if the publisher names it


def download(archive: RemoteArchive, part: Path, on_progress: OnProgress) -> None:
    """Complete the file ``part``, from the bytes that it holds on if the file on the server is still the same.

    Raises
    ------
    DownloadError
        If the server refuses, declares another size than the published one, or fails ``ATTEMPTS`` times. What has
        arrived stays, and another call goes on from it.
    UsageError, OutputError, DiskError
        If ``part`` cannot be written.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with part.open("ab") as stream:
                _request_rest(archive, stream, etag_file(part), on_progress)
            break
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, OSError) and (error.errno in DISK_ERRNOS or str(error.filename).startswith(str(part))):
                raise write_failure_message(part, error) from error
            reason, transient = _explain(error)
            if attempt == ATTEMPTS or not transient:
                raise DownloadError(
                    f"Asked for {archive.url}: {reason}, at attempt {attempt} of {ATTEMPTS}. Run the same command "
                    f"again to go on, or put the file there as {part.with_suffix('')} by other means first."
                ) from error
        pause = PAUSE_S * 2 ** (attempt - 1)
        LOGGER.info("%s: %s; trying again in %g s", archive.name, reason, pause)
        time.sleep(pause)


def etag_file(part: Path) -> Path:
    """Holds the ETag of the file that ``part`` is the beginning of."""
    return part.with_name(f"{part.name}.etag")


def _explain(error: Exception) -> tuple[str, bool]:
    """What went wrong with a request, and whether another may succeed."""
    if isinstance(error, HTTPError):
        error.close()
        return f"the server answered {error.code} {responses.get(error.code, '')}", error.code in TRANSIENT_STATUS
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"the server sent nothing for {TIMEOUT_S:g} s", True
    # No other attempt helps where an address is not https (a text), or a certificate does not hold (a ValueError).
    return printable(getattr(cause, "strerror", None) or str(cause)), not isinstance(cause, str | ValueError)


def _request_rest(archive: RemoteArchive, stream: IO[bytes], noted: Path, on_progress: OnProgress) -> None:
    if (start := stream.tell()) == archive.bytes:
        return
    etag = noted.read_text("utf-8") if noted.exists() else ""
    # Only a strong ETag shows that the file has not changed since (RFC 9110, 13.1.5).
    start = start if etag.startswith('"') and start < archive.bytes else 0
    with _restart_if_out_of_range(start, noted):
        opened = _open(archive.url, start, etag)
    with opened as response:
        if response.status == 206:
            _require_same_file(response, start, etag, archive.bytes, noted)
        else:
            _require_published_size(response, archive.bytes)
            start = stream.truncate(0)
            noted.write_text(response.headers["ETag"] or "", "utf-8")
        while block := response.read1(min(BLOCK_BYTES, archive.bytes - start)):
            start += stream.write(block)
            on_progress(f"Downloading {archive.name}", start, archive.bytes)
    if start < archive.bytes:
        raise ConnectionError(f"the connection ended after {start:,} of {archive.bytes:,} bytes")


def _open(url: str, start: int, etag: str) -> HTTPResponse:
    """Ask for the bytes from ``start`` on, or for all if the file has another ETag by now."""
    headers = {"User-Agent": f"ct3d-edge/{metadata.version('ct3d-edge')}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": etag}
    opener = request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    response: HTTPResponse = opener.open(request.Request(url, headers=headers), timeout=TIMEOUT_S)  # noqa: S310
    return response


@contextmanager
def _restart_if_out_of_range(start: int, etag: Path) -> Iterator[None]:
    """Let the next attempt begin at the first byte where a server does not have the one that was asked for."""
    try:
        yield
    except HTTPError as error:
        if not start or error.code != RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        etag.unlink(missing_ok=True)
        raise ConnectionError(f"the server has no bytes from {start:,} on") from error


def _require_same_file(response: HTTPResponse, start: int, etag: str, total: int, noted: Path) -> None:
    expected = (etag, f"bytes {start}-{total - 1}/{total}")
    if not start or (response.headers["ETag"], response.headers["Content-Range"]) != expected:
        noted.unlink(missing_ok=True)  # so that the next attempt begins at the first byte
        raise ConnectionError("the server sent a part of another file, or another part")


def _require_published_size(response: HTTPResponse, total: int) -> None:
    """Refuse the page of a portal and another release before what is here is lost."""
    if response.status != 200 or response.length not in {None, total}:
        raise ValueError(f"the server answered {response.status} with {response.length} bytes; {total} are published")
