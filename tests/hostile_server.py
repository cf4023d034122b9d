"""A real HTTPS server on 127.0.0.1 that misbehaves on request, one request at a time."""

import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import trustme

AUTHORITY = trustme.CA()
"""Signs the certificate of every server; a client trusts it where SSL_CERT_FILE names its certificate."""

Behaviour = Callable[["Handler", "Content"], None]


@dataclass(frozen=True)
class Content:
    """What an address serves."""

    body: bytes
    etag: str | None = '"one"'


@dataclass(frozen=True)
class Seen:
    """One request, as it arrived."""

    path: str
    headers: dict[str, str] = field(repr=False)

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class HostileServer:
    """Serves ``files`` by path; ``script[path]`` holds behaviours for the next requests, then it is well-behaved."""

    def __init__(self) -> None:
        self.files: dict[str, Content] = {}
        self.script: dict[str, deque[Behaviour]] = defaultdict(deque)
        self.log: list[Seen] = []
        self.release = threading.Event()
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"owner": self}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
        # A client that breaks the handshake off must not hold up the thread that accepts connections.
        self._httpd.socket = context.wrap_socket(self._httpd.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self._httpd.server_port}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of each request for ``path``."""
        return [seen.range for seen in self.log if seen.path == path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """One connection; a subclass knows its server."""

    owner: HostileServer

    def do_GET(self) -> None:
        self.owner.log.append(Seen(self.path, dict(self.headers.items())))
        script = self.owner.script[self.path]
        behaviour = script.popleft() if script else well_behaved
        # The client may have had enough.
        with suppress(ConnectionError, ssl.SSLError):
            behaviour(self, self.owner.files.get(self.path, Content(b"")))

    def head(self, status: int, headers: dict[str, object], content: Content | None = None) -> None:
        """Send the status line and headers; the ETag of ``content`` is added."""
        self.send_response(status)
        known = {"ETag": content.etag} if content else {}
        for name, value in {**known, **headers}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
        pass


def well_behaved(handler: Handler, content: Content) -> None:
    """Ranges and If-Range as RFC 9110 has them."""
    if handler.path not in handler.owner.files:
        status(404)(handler, content)
        return
    start = _asked_start(handler, content)
    size = len(content.body)
    if start is None:
        handler.head(200, {"Content-Length": size}, content)
    elif start >= size:
        handler.head(416, {"Content-Range": f"bytes */{size}"})
        return
    else:
        span = {"Content-Range": f"bytes {start}-{size - 1}/{size}", "Content-Length": size - start}
        handler.head(206, span, content)
    handler.wfile.write(content.body[start or 0 :])


def _asked_start(handler: Handler, content: Content) -> int | None:
    asked, condition = handler.headers["Range"], handler.headers["If-Range"]
    if asked is None or (condition is not None and condition != content.etag):
        return None
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def dropping(count: int) -> Behaviour:
    """A sound head, then ``count`` bytes of what was asked for, then the end."""

    def behave(handler: Handler, content: Content) -> None:
        start, size = _asked_start(handler, content) or 0, len(content.body)
        span = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        handler.head(206 if start else 200, {**span, "Content-Length": size - start}, content)
        handler.wfile.write(content.body[start : start + count])

    return behave


def ignoring_ranges(handler: Handler, content: Content) -> None:
    """Everything, whatever was asked for."""
    handler.head(200, {"Content-Length": len(content.body)}, content)
    handler.wfile.write(content.body)


def ignoring_conditions(handler: Handler, content: Content) -> None:
    """A part of the new file for whoever holds the beginning of the old one."""
    del handler.headers["If-Range"]
    well_behaved(handler, content)


def declaring(length: int) -> Behaviour:
    """The true body under another length."""

    def behave(handler: Handler, content: Content) -> None:
        handler.head(200, {"Content-Length": length}, content)
        handler.wfile.write(content.body)

    return behave


def undeclared(body: bytes) -> Behaviour:
    """A body of which only the end of the connection shows its length."""

    def behave(handler: Handler, content: Content) -> None:
        handler.head(200, {}, content)
        handler.wfile.write(body)

    return behave


def answering(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """A status with headers (underscores for hyphens) and a body, whatever was asked for."""

    def behave(handler: Handler, content: Content) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(code, {"Content-Length": len(body), **named})
        handler.wfile.write(body)

    return behave


def status(code: int) -> Behaviour:
    """A status and its page."""
    return answering(code, b"<h1>sorry</h1>")


def redirect(to: str) -> Behaviour:
    """Elsewhere."""
    return answering(302, Location=to)


def rubbish(handler: Handler, content: Content) -> None:
    """Not HTTP."""
    handler.wfile.write(b"\x1b[31mSSH-2.0-nothing\r\n\r\n")


def hanging(count: int, then: Callable[[], None] = lambda: None) -> Behaviour:
    """``count`` bytes, then silence until the server is closed."""

    def behave(handler: Handler, content: Content) -> None:
        handler.head(200, {"Content-Length": len(content.body)}, content)
        handler.wfile.write(content.body[:count])
        handler.wfile.flush()
        then()
        handler.owner.release.wait(30)

    return behave
