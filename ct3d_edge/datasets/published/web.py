"""One HTTP request for a file or the rest of it: what may be asked, what may answer, which failures may pass."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, responses
from importlib import metadata
from typing import IO, Self
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later attempt may not meet again."""

CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:([0-9]{1,18})|\*)")


class WebError(Exception):
    """What went wrong, as the end of a sentence that begins with what was asked for."""


class Refused(WebError):
    """Asking again would be answered the same."""


class Interrupted(WebError):
    """Another attempt may succeed."""


class Changed(Interrupted):
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
class Answer:
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
def open_file(url: str, *, start: int = 0, version: Version | None = None, timeout: float) -> Iterator[Answer]:
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


def _understood(response: HTTPResponse, start: int, version: Version) -> Answer:
    found = Version.of(response.headers["ETag"], response.headers["Last-Modified"])
    if response.status == HTTPStatus.OK:
        return Answer(0, response.length, found, response)
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        raise Refused(f"the server answered {_named(response.status)}")
    span = CONTENT_RANGE.fullmatch(response.headers["Content-Range"] or "")
    if span is None or int(span[1]) != start or version.differs(found):
        raise Changed("the server answered with a part of another file, or another part")
    return Answer(start, int(span[2]) if span[2] else None, found, response)


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
        kind = Refused if isinstance(reason, ssl.SSLCertVerificationError) else Interrupted
        raise kind(_in_words(reason)) from error
    except ValueError as error:  # a redirection to what is no address
        raise Refused("the server's answer cannot be understood") from error


def _for_status(code: int) -> WebError:
    if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return Changed("the server has no bytes beyond those that are here")
    answered = f"the server answered {_named(code)}"
    if 300 <= code < 400:
        return Refused(f"{answered}, a redirection that leads nowhere, round in circles or to no web address")
    return (Interrupted if code in PASSING else Refused)(answered)


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
        raise Refused("that is no http or https address" if redirected_from is None else "it leads to no web address")
    if scheme == "http" and redirected_from is not None and urlsplit(redirected_from).scheme == "https":
        raise Refused("the server leads from https to http, where anybody on the way could exchange the file")


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
