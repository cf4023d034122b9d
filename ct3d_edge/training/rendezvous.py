"""Workers wait for each other before TensorFlow does, which would wait for ever and could not be interrupted."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence

from ct3d_edge.errors import UsageError
from ct3d_edge.training.cluster import Cluster
from ct3d_edge.training.progress import OnProgress, WaitingForWorkers, silent

GREETING = b"ct3d-edge worker "
POLL_S, REPLY_S = 0.2, 2.0


class _Door(socketserver.ThreadingTCPServer):
    """Answers each greeting with one and notes who called."""

    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("", port), _Caller)
        self.heard: set[int] = set()


class _Caller(socketserver.StreamRequestHandler):
    timeout = REPLY_S
    server: _Door

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a stranger, or a worker that gave up
            line = self.rfile.readline(64)
            if line.startswith(GREETING):
                self.wfile.write(GREETING + b"\n")
                self.server.heard.add(int(line.removeprefix(GREETING)))


def meet(cluster: Cluster, wait: float, on_progress: OnProgress = silent) -> None:
    """Return once every worker has been reached and has reached this one.

    Each listens on its own port, which is free again when this returns: TensorFlow takes it over.

    Parameters
    ----------
    cluster
        The workers, and which of them this process is.
    wait
        Seconds.
    on_progress
        Receives a `WaitingForWorkers` at the beginning and whenever one more has come.

    Raises
    ------
    UsageError
        If the own port is taken, or after ``wait``, with the addresses of the workers that are missing.
    """
    others = set(range(len(cluster.workers))) - {cluster.index}
    reached: set[int] = set()
    told: tuple[str, ...] = ()
    end = time.monotonic() + wait
    with _open_door(cluster.workers[cluster.index]) as door:
        while missing := tuple(cluster.workers[other] for other in sorted(others - (reached & door.heard))):
            if missing != told:
                on_progress(WaitingForWorkers(missing))
                told = missing
            if time.monotonic() > end:
                raise UsageError(_nobody(cluster.index, wait, missing))
            reached |= {other for other in others - reached if _answers(cluster.workers[other], cluster.index)}
            time.sleep(POLL_S)


@contextlib.contextmanager
def _open_door(address: str) -> Iterator[_Door]:
    try:
        door = _Door(_split(address)[1])
    except OSError as error:
        raise UsageError(f"This worker is to listen on {address}, but cannot: {error.strerror or error}.") from error
    with door:
        thread = threading.Thread(target=door.serve_forever, args=(POLL_S,), daemon=True)
        thread.start()
        try:
            yield door
        finally:
            door.shutdown()
            thread.join()


def _answers(address: str, index: int) -> bool:
    """Whether a worker greets back; another program on the port does not."""
    try:
        with socket.create_connection(_split(address), REPLY_S) as line:
            line.sendall(GREETING + b"%d\n" % index)
            return line.makefile("rb").readline(64).startswith(GREETING)
    except OSError:  # not started yet
        return False


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _nobody(index: int, wait: float, missing: Sequence[str]) -> str:
    return (
        f"Worker {index} waited {wait:g} s for {', '.join(missing)}. "
        "Start the same command there, with its own index in TF_CONFIG, and see that its port can be reached."
    )
