"""A published file over HTTPS: resumed, retried, counted and hashed as it arrives."""

import hashlib
import json
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, responses
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ct3d_edge.errors import DownloadError, UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.system.atomic_write import atomic_file, to_output_error

if TYPE_CHECKING:
    from hashlib import _Hash


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about ``path`` into a sentence.

    Raises
    ------
    UsageError, OutputError, DiskError
        In place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise to_output_error(
            error,
            f"Cannot write {path}: {error.strerror or error}. Mend that or name another folder, then run the same "
            "command again: it goes on from what is there.",
        ) from error


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse work that would fill the disk.

    Parameters
    ----------
    folder
        An existing folder on the disk in question.
    needed
        Bytes.
    what
        The work, as the beginning of a sentence.

    Raises
    ------
    UsageError
        If less is free.
    """
    with disk_errors(folder):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"{what} takes {format_bytes(needed)} in {folder}, where {format_bytes(free)} are free. "
            "Free some or name another folder, then run the same command again."
        )


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that it holds, if it is there.

    Raises
    ------
    UsageError
        If that is not possible; a link is left alone.
    """
    if os.path.lexists(folder):
        with disk_errors(folder):
            shutil.rmtree(folder)


@dataclass(frozen=True)
class Moved:
    """Bytes have arrived or have been unpacked.

    Parameters
    ----------
    what
        The work that goes on, e.g. ``"Downloading CT-0.zip"``.
    done, total
        Bytes so far, and in all.
    """

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Noted:
    """Something a person may want to know: a sentence without its full stop."""

    text: str


Event = Moved | Noted
OnEvent = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Ignore the event."""


@dataclass(frozen=True)
class RemoteFile:
    """One published zip archive with the scans of one class.

    Parameters
    ----------
    name
        Of the class, and of the folder that the scans go to.
    url
        An http or https address.
    bytes
        Size of the archive.
    sha256
        In hexadecimal, if the publisher names it.
    """

    name: str
    url: str
    bytes: int
    sha256: str | None = None

    @property
    def archive(self) -> str:
        """File name of the archive on this machine."""
        return f"{self.name}.zip"


@dataclass(frozen=True)
class RemoteDataset:
    """Archives that belong together, one a class.

    Parameters
    ----------
    name
        As its authors call it.
    sources
        The archives, in the order in which they are fetched.
    licence
        What its users may do, in a few words.
    citation
        What a publication that uses it has to cite.
    """

    name: str
    sources: tuple[RemoteFile, ...]
    licence: str
    citation: str


RELEASE = "https://github.com/hasibzunair/3D-image-classification-tutorial/releases/download/v0.2"
"""The release of the tutorial "3D image classification from CT scans" (H. Zunair, Keras examples)."""

MOSMED = RemoteDataset(
    name="MosMedData",
    sources=(
        RemoteFile("CT-0", f"{RELEASE}/CT-0.zip", 1_065_471_431),
        RemoteFile("CT-23", f"{RELEASE}/CT-23.zip", 1_045_162_547),
    ),
    licence="CC BY-NC-ND 3.0",
    citation='Morozov et al., "MosMedData: Chest CT Scans with COVID-19 Related Findings Dataset", 2020, '
    "arXiv:2005.06465",
)
"""100 scans without findings (CT-0) and 100 with viral pneumonia (CT-23); the publisher names no hashes."""


PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later attempt may not meet again."""

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:([0-9]{1,18})|\*)")


class WebError(Exception):
    """What went wrong, as the end of a sentence that begins with what was asked for."""


class HttpRefused(WebError):
    """Asking again would be answered the same."""


class DownloadInterrupted(WebError):
    """Another attempt may succeed."""


class RemoteFileChanged(DownloadInterrupted):
    """The file on the server is not the one whose beginning is here; another attempt has to start over."""


@dataclass(frozen=True)
class Version:
    """What tells the files apart that one address serves in the course of time.

    Parameters
    ----------
    etag
        A strong entity tag. Weak ones do not promise equal bytes and may not be used here (RFC 9110, 13.1.5).
    last_modified
        The server's date, as it wrote it.
    """

    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def of(cls, etag: object, last_modified: object) -> Self:
        """From header fields or a file; what cannot be sent back as it is does not count."""
        strong = etag if isinstance(etag, str) and etag.startswith('"') else None
        return cls(_sendable(strong), _sendable(last_modified))

    @property
    def condition(self) -> str | None:
        """The value of ``If-Range``; None if nothing tells a changed file apart."""
        return self.etag or self.last_modified

    def differs(self, other: "Version") -> bool:
        """Whether both name something that shows that they are not the same."""
        if self.etag and other.etag:
            return self.etag != other.etag
        return bool(self.last_modified and other.last_modified and self.last_modified != other.last_modified)


def _sendable(value: object) -> str | None:
    return value if isinstance(value, str) and value and value.isascii() and value.isprintable() else None


@dataclass(frozen=True)
class HttpResponse:
    """A body about to be read.

    Parameters
    ----------
    start
        Where in the file the body begins: what was asked for, or 0 if the server sends everything.
    total
        Bytes of the whole file as the server declares them, if it does.
    version
        Of the file.
    body
        The response.
    """

    start: int
    total: int | None
    version: Version
    body: HTTPResponse

    def read(self, count: int) -> bytes:
        """Return what has arrived, ``count`` bytes at most; nothing at the end, early or not.

        Raises
        ------
        Interrupted
            If the connection fails.
        """
        with _translating():
            return self.body.read1(count)


@contextmanager
def open_file(url: str, *, start: int = 0, version: Version | None = None, timeout: float) -> Iterator[HttpResponse]:
    """Ask for the bytes from ``start`` on, or for all of them if the file is not ``version`` any more.

    Parameters
    ----------
    timeout
        Seconds of silence, while connecting or reading, before the connection is given up.

    Raises
    ------
    Refused, Interrupted, Changed
        If there is no such body. Certificates are checked; redirections lead to http or https, and never from
        https to http.
    """
    _require_web(url)
    version = version or Version()
    with _translating():
        asked = request.Request(url, headers=_headers(start, version))  # noqa: S310  # checked above
        response = _opener().open(asked, timeout=timeout)
    with response:
        yield _understood(response, start, version)


def _headers(start: int, version: Version) -> dict[str, str]:
    headers = {"User-Agent": f"ct3d-edge/{metadata.version('ct3d-edge')}", "Accept-Encoding": "identity"}
    if start and version.condition:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.condition}
    return headers


def _understood(response: HTTPResponse, start: int, version: Version) -> HttpResponse:
    found = Version.of(response.headers["ETag"], response.headers["Last-Modified"])
    if response.status == HTTPStatus.OK:
        return HttpResponse(0, response.length, found, response)
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        raise HttpRefused(f"the server answered {_named(response.status)}")
    span = CONTENT_RANGE.fullmatch(response.headers["Content-Range"] or "")
    if span is None or int(span[1]) != start or version.differs(found):
        raise RemoteFileChanged("the server answered with a part of another file, or another part")
    return HttpResponse(start, int(span[2]) if span[2] else None, found, response)


@contextmanager
def _translating() -> Iterator[None]:
    """Tell failures that may pass from those that will not."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _for_status(error.code) from error
    except (URLError, HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        kind = HttpRefused if isinstance(reason, ssl.SSLCertVerificationError) else DownloadInterrupted
        raise kind(_in_words(reason)) from error
    except ValueError as error:  # a redirection to what is no address
        raise HttpRefused("the server's answer cannot be understood") from error


def _for_status(code: int) -> WebError:
    if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return RemoteFileChanged("the server has no bytes beyond those that are here")
    has_prediction = f"the server answered {_named(code)}"
    if 300 <= code < 400:
        return HttpRefused(f"{has_prediction}, a redirection that leads nowhere, round in circles or to no web address")
    return (DownloadInterrupted if code in PASSING else HttpRefused)(has_prediction)


def _named(code: int) -> str:
    """The status with its standard name: the server's own words could hold anything."""
    return f"{code} {responses[code]}" if code in responses else str(code)


def _in_words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "the server fell silent"
    if isinstance(reason, HTTPException):
        return "the server's answer broke off or is not HTTP"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the server's certificate does not hold ({reason.verify_message})"
    text = getattr(reason, "strerror", None) or str(reason)  # a proxy's words may be in it
    return f"the connection failed ({''.join(c if c.isprintable() else '?' for c in text)})"


def _require_web(url: str, redirected_from: str | None = None) -> None:
    scheme = urlsplit(url).scheme
    if scheme not in {"http", "https"}:
        raise HttpRefused(
            "that is no http or https address" if redirected_from is None else "it leads to no web address"
        )
    if scheme == "http" and redirected_from is not None and urlsplit(redirected_from).scheme == "https":
        raise HttpRefused("the server leads from https to http, where anybody on the way could exchange the file")


class _WebRedirects(request.HTTPRedirectHandler):
    """Follows redirections within the web; the standard handler would take ftp as well."""

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> request.Request | None:
        _require_web(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> request.OpenerDirector:
    """Proxies as the system says, but no ``file:``, ``ftp:`` and ``data:``, which ``build_opener`` would add."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _WebRedirects(),
    ):
        opener.add_handler(handler)
    return opener


BLOCK = 1 << 18


@dataclass(frozen=True)
class RetryPolicy:
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


def download(source: RemoteFile, part: PartFile, patience: RetryPolicy, on_event: OnEvent = ignore_event) -> str:
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
        except HttpRefused as error:
            raise DownloadError(f"Asked for {source.url}: {error}. {_otherwise(source, part)}") from error
        except DownloadInterrupted as error:
            if attempt >= patience.attempts:
                raise _given_up(source, part, attempt, error) from error
            pause = patience.pause * 2 ** (attempt - 1)
            on_event(Noted(f"{source.archive}: {error}; trying again in {pause:g} s"))
            time.sleep(pause)


def _given_up(source: RemoteFile, part: PartFile, attempts: int, error: DownloadInterrupted) -> DownloadError:
    held = part.held(source.bytes)
    return DownloadError(
        f"Asked for {source.url}: {error}, at attempt {attempts} of {attempts}. {held:,} of {source.bytes:,} bytes are "
        f"here: run the same command again to go on. {_otherwise(source, part)}"
    )


def _otherwise(source: RemoteFile, part: PartFile) -> str:
    return (
        f"If that address does not work here, put the file there as {part.path.with_name(source.archive)} by other "
        "means and run the same command again."
    )


def _attempt(source: RemoteFile, part: PartFile, timeout: float, on_event: OnEvent) -> str:
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
    except RemoteFileChanged:
        part.remove()
        raise
    return digest.hexdigest()


def _hash_so_far(path: Path, held: int) -> "_Hash":
    if not held:
        return hashlib.sha256()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")


def _require_size(answer: HttpResponse, source: RemoteFile) -> None:
    """Before anything is lost: a portal's page or another release must not replace what is here."""
    if answer.total is not None and answer.total != source.bytes:
        raise HttpRefused(
            f"the server declares {answer.total:,} bytes where {source.bytes:,} are published, so it is another file"
        )


def _say_if_lost(held: int, source: RemoteFile, on_event: OnEvent) -> None:
    if held:
        on_event(Noted(f"{source.archive}: changed on the server, or the server cannot resume; starting over"))


def _append(answer: HttpResponse, source: RemoteFile, part: PartFile, digest: "_Hash", on_event: OnEvent) -> None:
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
        raise HttpRefused(
            f"the server sent more than the {source.bytes:,} bytes that are published, so it is another file"
        )
    if done < source.bytes:
        raise DownloadInterrupted(f"the connection ended after {done:,} of {source.bytes:,} bytes")
