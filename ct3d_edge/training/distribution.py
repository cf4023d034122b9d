"""Which devices share a training run: one, all of this machine, or those of several machines."""

import contextlib
import faulthandler
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

from ct3d_edge.errors import UsageError
from ct3d_edge.training.rendezvous import meet

Distribution = Literal["none", "mirrored", "multiworker"]

WAIT_S = 600.0
"""How long a worker waits for the others to be started."""

CONNECT_S = 120.0
"""How long TensorFlow may take to connect workers that have already met."""

COLLECTIVE_S = 1800.0
"""How long a step may wait for the slowest worker. One that dies is noticed by its missing heartbeat, in seconds."""

STANDARD_ERROR = 2
"""The descriptor: ``sys.stderr`` may be something else by then."""

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
        """Parse ``TF_CONFIG``, TensorFlow's own variable.

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
            workers, task = config["cluster"]["worker"], config["task"]
            cluster = cls(tuple(workers), int(task["index"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_config(f"found {text}") from error
        if set(config["cluster"]) != {"worker"} or task.get("type") != "worker":
            raise _bad_config(f"only tasks of the type worker are known; found {text}")
        cluster._require_sense()
        return cluster

    def _require_sense(self) -> None:
        if len(set(self.workers)) < 2 or len(set(self.workers)) < len(self.workers):
            raise _bad_config(f"two different workers at least are needed; found {', '.join(self.workers) or 'none'}")
        if not 0 <= self.index < len(self.workers):
            raise _bad_config(f"the index is {self.index}, but there are {len(self.workers)} workers")
        for worker in self.workers:
            if not str(worker).rpartition(":")[2].isdigit() or not str(worker).rpartition(":")[0]:
                raise _bad_config(f"{worker!r} is not host:port")


def open_strategy(kind: Distribution, *, wait: float = WAIT_S) -> tf.distribute.Strategy | None:
    """Open the devices that share the work; None for a single one.

    To be called before TensorFlow has computed anything: workers connect while it starts.

    Parameters
    ----------
    kind
        ``mirrored``: all GPUs of this machine, or all logical CPU devices if it has no GPU. ``multiworker``: the
        workers of ``TF_CONFIG``.
    wait
        Seconds until workers that have not been started are an error.

    Raises
    ------
    UsageError
        If there are fewer than two devices, ``TF_CONFIG`` is not usable, or a worker is missing.
    """
    if kind == "none":
        return None
    return _mirrored() if kind == "mirrored" else _multiworker(Cluster.from_environment(), wait)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes files and speaks: alone, or worker 0."""
    return worker_index(strategy) == 0


def worker_index(strategy: tf.distribute.Strategy | None) -> int:
    """Which of the workers this process is, from 0."""
    resolver = None if strategy is None else strategy.cluster_resolver
    return int(resolver.task_id or 0) if resolver is not None else 0


def replicas(strategy: tf.distribute.Strategy | None) -> int:
    """Devices that share the work, over all workers."""
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def scope(strategy: tf.distribute.Strategy | None) -> AbstractContextManager[Any]:
    """Where the network is to be built and compiled."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def wait_for_all(strategy: tf.distribute.Strategy | None) -> None:
    """Return once all workers have come here: one that leaves early looks to the others as if it had died."""
    if strategy is not None:
        _sum(strategy, 1)


def require_agreement(strategy: tf.distribute.Strategy | None, digest: str) -> None:
    """Make sure that all workers train on the same thing.

    Parameters
    ----------
    digest
        Hexadecimal SHA-256 of all that must be equal: split, contract, options.

    Raises
    ------
    UsageError
        On every worker, if one has another digest.
    """
    if strategy is None:
        return
    number, devices = int(digest[:6], 16), replicas(strategy)  # 24 bits: the squares' sum stays within 64
    # Sums alone could be equal by chance; with the squares' sum they are so only if all numbers are the same.
    if (_sum(strategy, number), _sum(strategy, number**2)) != (devices * number, devices * number**2):
        raise UsageError(
            "The workers do not have the same scans and options. Start the same command on the same data everywhere."
        )


def _sum(strategy: tf.distribute.Strategy, number: int) -> int:
    """Add up a number of each device over all workers; waits for all of them."""

    def on_device() -> tf.Tensor:
        return tf.constant(number, tf.int64)

    shared = tf.function(strategy.run, autograph=False)(on_device)
    return int(strategy.reduce("SUM", shared, axis=None))


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise UsageError(
            f"--distribute mirrored shares each batch between the GPUs of this machine and needs two or more; "
            f"TensorFlow sees {devices[0].name.removeprefix('/device:')} alone. Leave --distribute out."
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker(cluster: Cluster, wait: float) -> tf.distribute.Strategy:
    meet(cluster.workers, cluster.index, wait)
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


def _bad_config(found: str) -> UsageError:
    return UsageError(
        "--distribute multiworker needs the environment variable TF_CONFIG, with the same list of workers on each and "
        f"its own index, and {found}. For the first of two: TF_CONFIG='{EXAMPLE}'"
    )
