"""HTTP connections with limits that uvicorn has none for: on their number, and on the time of silent clients."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

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


class LimitedProtocol(H11Protocol):
    """One connection; see `limit_connections`."""

    max_connections: int
    timeout_s: float
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection too many."""
        super().connection_made(transport)
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
        """Stop the timer of the head when a request begins."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_head_timer()

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
