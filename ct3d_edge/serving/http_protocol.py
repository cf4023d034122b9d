"""HTTP connections with limits that uvicorn has none for: on their number, and on the time of silent clients.

Bodies of known length are received straight into a block for each connection. uvicorn and h11 copy each piece of about
64 KiB five times, and stop the connection until it was taken.
"""

import asyncio

import h11
from h11._readers import ContentLengthReader
from uvicorn.protocols.http.h11_impl import H11Protocol

BLOCK_BYTES = 1 << 18
"""Of a body that the handler of a request gets at once."""

BLOCK_S = 1.0
"""Seconds after which it gets a block that is not full, so that it sees how fast the client sends."""

HEAD_BYTES = 1 << 16
"""Received at once outside the body of a request."""

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def limit_connections(max_connections: int, timeout_s: float) -> type[H11Protocol]:
    """The protocol with limits, as uvicorn takes it: a class.

    Parameters
    ----------
    max_connections
        One more is refused.
    timeout_s
        Seconds that a client may take for the head of a request (from the connection, or from the last response), and
        for which it may not read a response. What is left of a refused body is read and dropped meanwhile.
    """
    limits = {"max_connections": max_connections, "timeout_s": timeout_s}
    return type(LimitedProtocol.__name__, (LimitedProtocol,), limits)


class LimitedProtocol(H11Protocol, asyncio.BufferedProtocol):
    """One connection; see `limit_connections`."""

    max_connections: int
    timeout_s: float
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _body_left = 0
    """Bytes of a body that are still to come; 0 outside of one."""
    _filled = 0
    """Bytes of a body in the block."""
    _block_end_s = 0.0
    """When the block is passed on at the latest, by the clock of the event loop."""

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go. In a body, that is never beyond its end."""
        end = min(self._filled + self._body_left, BLOCK_BYTES) if self._body_left else HEAD_BYTES
        return memoryview(self._block)[self._filled : end]

    def buffer_updated(self, nbytes: int) -> None:
        """Called when bytes were received."""
        if not self._body_left:
            self.data_received(bytes(memoryview(self._block)[:nbytes]))
            return
        self._filled += nbytes
        self._body_left -= nbytes
        if self._filled == BLOCK_BYTES or not self._body_left or self.loop.time() > self._block_end_s:
            self._pass_block()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection too many."""
        super().connection_made(transport)
        self._block = bytearray(BLOCK_BYTES)
        self._start_head_timer()
        if len(self.connections) > self.max_connections:
            transport.write(REFUSAL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Stop the timer of the head when a request begins; receive its body here, not in h11."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_head_timer()
            self._begin_body()

    def _begin_body(self) -> None:
        """Receive the rest of a body of known length without h11, which has no public way past its copies."""
        reader = self.conn._reader
        if self.conn.their_state is h11.SEND_BODY and isinstance(reader, ContentLengthReader):
            self._body_left = reader._remaining
            self._block_end_s = self.loop.time() + BLOCK_S

    def _pass_block(self) -> None:
        """Pass the block to the handler of the request; the connection stops until it asks for more."""
        size, self._filled = self._filled, 0
        self._block_end_s = self.loop.time() + BLOCK_S
        if self.conn.our_state is not h11.DONE:  # else the request was refused, and its body is dropped
            self.cycle.body += memoryview(self._block)[:size]
            self.flow.pause_reading()
            self.cycle.message_event.set()
        if not self._body_left and isinstance(reader := self.conn._reader, ContentLengthReader):
            reader._remaining = 0
            self.handle_events()

    def send_400_response(self, msg: str) -> None:
        """End a connection whose body turns out to be damaged; without this the handler would respond as well."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._start_head_timer()  # before the next request of a pipeline begins
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.timeout_s, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stop_write_timer()
        super().resume_writing()

    def _start_head_timer(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()

    def _stop_write_timer(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
