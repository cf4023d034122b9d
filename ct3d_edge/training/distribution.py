"""Which devices share a training run: one, all of this machine, or those of several machines."""

import contextlib
import faulthandler
from collections.abc import Iterator
from typing import Literal

import tensorflow as tf

from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.training.cluster import Cluster
from ct3d_edge.training.progress import OnProgress, silent
from ct3d_edge.training.rendezvous import meet

Distribution = Literal["none", "mirrored", "multiworker"]

MEET_S = 600.0
"""How long a worker waits for the others to be started."""

CONNECT_S = 120.0
"""How long TensorFlow may take to connect workers that have already met."""

COLLECTIVE_S = 1800.0
"""How long a step may wait for the slowest worker. One that dies is noticed by its missing heartbeat, in seconds."""

STANDARD_ERROR = 2
"""The descriptor: ``sys.stderr`` may be something else by then."""


def open_strategy(kind: Distribution, on_progress: OnProgress = silent) -> tf.distribute.Strategy | None:
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
            f"--distribute mirrored shares each batch between the GPUs of this machine and needs two or more; "
            f"TensorFlow sees {devices[0].name.removeprefix('/device:')} alone. Leave --distribute out."
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker(cluster: Cluster, on_progress: OnProgress) -> tf.distribute.Strategy:
    meet(cluster, MEET_S, on_progress)
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
