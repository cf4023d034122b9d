"""Which devices share a training run: one, all of this machine, or those of several machines (``TF_CONFIG``)."""

import contextlib
import faulthandler
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.training.progress import OnProgress, WaitingForWorkers, ignore_event

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is.

    Parameters
    ----------
    workers
        ``host:port`` of each, in the same order everywhere.
    index
        Of this process; worker 0 is the chief.
    """

    workers: tuple[str, ...]
    index: int

    @classmethod
    def from_environment(cls) -> "Cluster":
        """Parse ``TF_CONFIG``.

        Raises
        ------
        UsageError
            If it is not set, or does not list two workers or more and say which one this is.
        """
        text = os.environ.get("TF_CONFIG")
        if not text:
            raise _bad_config("it is not set")
        try:
            config = json.loads(text)
            roles, task = dict(config["cluster"]), dict(config["task"])
            cluster = cls(tuple(map(str, roles["worker"])), int(task["index"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_config(f"found {text}") from error
        if set(roles) != {"worker"} or task.get("type") != "worker":
            raise _bad_config(f"only tasks of the type worker are known; found {text}")
        cluster._require_sense()
        return cluster

    def _require_sense(self) -> None:
        for worker in self.workers:
            host, _, port = worker.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
                raise _bad_config(f"{worker!r} is not host:port")
        if len(self.workers) < 2 or len(set(self.workers)) < len(self.workers):
            raise _bad_config(f"two different workers at least are needed; found {', '.join(self.workers) or 'none'}")
        if not 0 <= self.index < len(self.workers):
            raise _bad_config(f"the index is {self.index}, but there are {len(self.workers)} workers")


def _bad_config(found: str) -> UsageError:
    return UsageError(
        "--strategy multiworker needs the environment variable TF_CONFIG, with the same list of workers on each and "
        f"its own index, and {found}. For the first of two: TF_CONFIG='{EXAMPLE}'"
    )


GREETING = b"ct3d-edge worker "
POLL_S, REPLY_S = 0.2, 2.0


class _BarrierServer(socketserver.ThreadingTCPServer):
    """Answers each greeting with one and notes who called."""

    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("", port), _BarrierHandler)
        self.heard: set[int] = set()


class _BarrierHandler(socketserver.StreamRequestHandler):
    timeout = REPLY_S
    server: _BarrierServer

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a stranger, or a worker that gave up
            line = self.rfile.readline(64)
            if line.startswith(GREETING):
                self.wfile.write(GREETING + b"\n")
                self.server.heard.add(int(line.removeprefix(GREETING)))


def wait_for_workers(cluster: Cluster, wait: float, on_progress: OnProgress = ignore_event) -> None:
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
def _open_door(address: str) -> Iterator[_BarrierServer]:
    try:
        door = _BarrierServer(_split(address)[1])
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


Distribution = Literal["none", "mirrored", "multiworker"]

MEET_S = 600.0
"""How long a worker waits for the others to be started."""

CONNECT_S = 120.0
"""How long TensorFlow may take to connect workers that have already met."""

COLLECTIVE_S = 1800.0
"""How long a step may wait for the slowest worker. One that dies is noticed by its missing heartbeat, in seconds."""

STANDARD_ERROR = 2
"""The descriptor: ``sys.stderr`` may be something else by then."""


def open_strategy(kind: Distribution, on_progress: OnProgress = ignore_event) -> tf.distribute.Strategy | None:
    """Open the devices that share the work; None for a single one.

    To be called before TensorFlow has computed anything: workers connect while it starts.

    Parameters
    ----------
    kind
        ``"mirrored"``: all GPUs of this machine, or all logical CPU devices if it has no GPU. ``"multiworker"``:
        the workers of ``TF_CONFIG``.
    on_progress
        Receives a `WaitingForWorkers` while some are missing.

    Raises
    ------
    UsageError
        If there are fewer than two devices, ``TF_CONFIG`` is not usable, or a worker is missing.
    """
    if kind == "none":
        return None
    return _mirrored() if kind == "mirrored" else _multiworker(Cluster.from_environment(), on_progress)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes files and speaks: alone, or worker 0."""
    return _worker(strategy) == 0


def replicas(strategy: tf.distribute.Strategy | None) -> int:
    """Devices that share the work, over all workers."""
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def devices_here(strategy: tf.distribute.Strategy) -> range:
    """Those of this worker, out of the devices of all: as many on each worker."""
    count = len(strategy.extended.worker_devices)
    return range(_worker(strategy) * count, (_worker(strategy) + 1) * count)


@contextlib.contextmanager
def scope(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Where the network is to be built, compiled and trained.

    Raises
    ------
    ProviderError
        If another worker ends meanwhile.
    """
    with lost_worker_named(), contextlib.nullcontext() if strategy is None else strategy.scope():
        yield


@contextlib.contextmanager
def lost_worker_named() -> Iterator[None]:
    """Say in a sentence that another worker ended while this block waited for it.

    Raises
    ------
    ProviderError
        If so.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        raise ProviderError(
            "Another worker has ended, so that no step can be finished; see its own messages. "
            "Start the command again on all workers, with --resume to go on after the last complete epoch."
        ) from error


def _worker(strategy: tf.distribute.Strategy | None) -> int:
    resolver = None if strategy is None else strategy.cluster_resolver
    return 0 if resolver is None else int(resolver.task_id or 0)


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise UsageError(
            f"--strategy mirrored shares each batch between the GPUs of this machine and needs two or more; "
            f"TensorFlow sees {devices[0].name.removeprefix('/device:')} alone. Leave --strategy out."
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker(cluster: Cluster, on_progress: OnProgress) -> tf.distribute.Strategy:
    wait_for_workers(cluster, MEET_S, on_progress)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=COLLECTIVE_S)
    with _ended_after(CONNECT_S):
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """End the process if the block takes longer.

    TensorFlow waits for a lost worker without end and holds Python's lock meanwhile: neither a thread nor a signal
    handler could do it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
