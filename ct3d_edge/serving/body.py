"""Read the body of a request to disk, within limits on bytes and time."""

import asyncio
import errno
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ct3d_edge.formatting import format_bytes
from ct3d_edge.serving.config import ServerLimits
from ct3d_edge.serving.request_error import RequestError
from ct3d_edge.system.atomic_write import DISK_ERRNOS

BLOCK_BYTES, BLOCK_CHUNKS = 1 << 20, 256
"""Bytes, or chunks of them, that are written at once, by another thread than the event loop's."""

MIN_RATE = 16 << 10
"""Bytes per second that a client must reach."""


class BodyWriter(Protocol):
    """What takes the blocks of a body."""

    def write(self, data: bytes) -> object:
        """Take the next block."""

    def close(self) -> None:
        """The body is complete."""


async def receive_file(request: Request, path: Path, limits: ServerLimits) -> Path:
    """Write the body to a file; see `receive_body`."""
    with path.open("wb") as stream:
        await receive_body(request, stream, path.parent, limits)
    return path


async def receive_body(request: Request, writer: BodyWriter, folder: Path, limits: ServerLimits) -> None:
    """Pass the body on in blocks.

    Parameters
    ----------
    folder
        Where the blocks are stored. Its disk keeps ``min_free_bytes``, as a temporary folder is often in memory.

    Raises
    ------
    RequestError
        408 if it comes too slowly, 411 to 415 if it is too large, compressed or missing, 507 if the disk is full.
    ClientDisconnect
        If the connection ends before the body.
    """
    _check_headers(request, limits)
    await run_in_threadpool(_require_space, folder, int(request.headers.get("content-length", 0)), limits)

    def write(chunks: list[bytes]) -> None:
        _require_space(folder, sum(map(len, chunks)), limits)
        for chunk in chunks:
            writer.write(chunk)

    block, size = list[bytes](), 0
    try:
        async for chunk in _timed_stream(request, limits):
            block.append(chunk)
            size += len(chunk)
            if size >= BLOCK_BYTES or len(block) >= BLOCK_CHUNKS:
                await run_in_threadpool(write, block)
                block, size = [], 0
        await run_in_threadpool(write, block)
        await run_in_threadpool(writer.close)
    except OSError as error:
        if error.errno not in DISK_ERRNOS or error.errno == errno.EIO:
            raise
        raise _disk_full() from error


def _require_space(folder: Path, size: int, limits: ServerLimits) -> None:
    if size > shutil.disk_usage(folder).free - limits.min_free_bytes:
        raise _disk_full()


def _disk_full() -> RequestError:
    return RequestError(507, "disk_full", "The server has no disk space for this body. Try again later.")


def _check_headers(request: Request, limits: ServerLimits) -> None:
    """Refuse before the body is read what its headers give away."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RequestError(
            415, "content_encoding", f"Content-Encoding {encoding!r} is not supported; send plain bytes."
        )
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" not in request.headers:
        raise RequestError(411, "no_body", "The request has no body. Send the scan as its body.")
    if length is not None and int(length) > limits.max_upload:  # h11 lets digits through only
        raise _too_large(limits)


async def _timed_stream(request: Request, limits: ServerLimits) -> AsyncIterator[bytes]:
    """The chunks of a body, which must not fall behind `MIN_RATE` by more than the time limit."""
    begun, received, chunks = time.monotonic(), 0, aiter(request.stream())
    while True:
        allowed_s = limits.body_timeout + received / MIN_RATE
        try:
            async with asyncio.timeout(begun + allowed_s - time.monotonic()):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise RequestError(
                408, "body_timeout", f"{received:,} bytes of the body came in {allowed_s:.0f} s; that is too slow."
            ) from error
        if chunk is None:
            return
        received += len(chunk)
        if received > limits.max_upload:
            raise _too_large(limits)
        yield chunk


def _too_large(limits: ServerLimits) -> RequestError:
    limit = format_bytes(limits.max_upload)
    return RequestError(413, "body_too_large", f"The body is larger than {limit}, the limit of this server.")
