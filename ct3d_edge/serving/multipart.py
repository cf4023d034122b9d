"""The files of a multipart body, written to disk as they arrive. Names in the body are not used as paths."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ct3d_edge.serving.config import ServerLimits
from ct3d_edge.serving.request_error import RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

T = TypeVar("T")


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a ``multipart/form-data`` body; None for other types.

    Raises
    ------
    RequestError
        400 if it is multipart without a boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    if not options.get(b"boundary"):
        raise RequestError(400, "bad_multipart", "The Content-Type multipart/form-data has no boundary.")
    return options[b"boundary"]


class MultipartWriter:
    """Splits a body into its files: ``00001``, ``00002`` and so on in ``folder``.

    Parameters
    ----------
    boundary
        See `boundary_of`.
    folder
        Where the files go.
    limits
        ``max_files`` counts all parts.

    Raises
    ------
    RequestError
        400 if the boundary is too long; from ``write`` and ``close`` if the body is no complete multipart.
    """

    def __init__(self, boundary: bytes, folder: Path, limits: ServerLimits) -> None:
        self.files: list[Path] = []
        self.names: list[str] = []
        self._folder, self._max_parts = folder, limits.max_files
        self._parts, self._header, self._value, self._disposition = 0, bytearray(), bytearray(), b""
        self._stream: BinaryIO | None = None
        self._ended = False
        self._parser = self._guarded(lambda: MultipartParser(boundary, self._callbacks()))

    def write(self, data: bytes) -> None:
        """Parse the next block."""
        self._guarded(lambda: self._parser.write(data))

    def close(self) -> None:
        """Check that the body is complete."""
        self._guarded(self._parser.finalize)
        if not self._ended or self._stream:
            raise _bad_multipart("it ends before its last boundary")
        if not self.files:
            raise _bad_multipart('no part has a file (filename="...")')

    @staticmethod
    def _guarded(work: Callable[[], T]) -> T:
        try:
            return work()
        except FormParserError as error:
            raise _bad_multipart(str(error)) from error

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_file,
            "on_part_data": self._write_file,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._parts, self._disposition = self._parts + 1, b""
        if self._parts > self._max_parts:
            raise RequestError(413, "too_many_files", f"The body has more than {self._max_parts:,} parts.")

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open_file(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"filename" in options:
            self.files.append(self._folder / f"{len(self.files) + 1:05}")
            self.names.append(options[b"filename"].decode(errors="replace"))
            self._stream = self.files[-1].open("wb")

    def _write_file(self, data: bytes, start: int, end: int) -> None:
        if self._stream:
            self._stream.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        if self._stream:
            self._stream.close()
        self._stream = None

    def _end(self) -> None:
        self._ended = True


def _bad_multipart(reason: str) -> RequestError:
    return RequestError(400, "bad_multipart", f"The body is not complete multipart/form-data: {reason}.")
