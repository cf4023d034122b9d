"""Which devices share a training run: one, all of this machine, or those of several machines (``TF_CONFIG``).

TensorFlow connects the workers, waits for them and notices a lost one. Here are the check of ``TF_CONFIG``, its errors
in a sentence, and what the workers exchange besides the figures of their steps.
"""

import contextlib
import faulthandler
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.system.atomic_write import atomic_file

LOGGER = logging.getLogger("ct3d_edge.training")

Distribution = Literal["none", "mirrored", "multiworker"]

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'

CONNECT_S = 600.0
"""How long a worker waits for the others. TensorFlow's limit is an hour, and does not end the wait of worker 0."""

COLLECTIVE_S = 1800.0
"""How long a step may wait for the slowest worker. One that dies is noticed by its missing heartbeat, in seconds."""

STANDARD_ERROR = 2
"""The descriptor: ``sys.stderr`` may be something else by then."""

WORD = np.dtype(np.int64)
"""What bytes are sent as: TensorFlow gathers no single bytes."""


def read_workers() -> tuple[str, ...]:
    """``host:port`` of each worker in ``TF_CONFIG``. TensorFlow trains alone without it, and waits for a wrong one.

    Raises
    ------
    UsageError
        If it is not set, or does not list two workers or more and name this one.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        cluster, task = dict(config["cluster"]), dict(config["task"])
        workers = tuple(map(str, cluster["worker"]))
        usable = set(cluster) == {"worker"} and task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError):
        usable, workers = False, ()
    if not usable or not 2 <= len(workers) == len(set(workers)) or not all(map(_is_address, workers)):
        raise UsageError(
            '`distribute="multiworker"` needs the environment variable TF_CONFIG: two workers or more as host:port, in '
            f"the same order on each, and this one's index; found {text or 'none'}. "
            f"For the first of two: TF_CONFIG='{EXAMPLE}'"
        )
    return workers


def _is_address(worker: str) -> bool:
    found = re.fullmatch(r".+:([0-9]+)", worker)
    return found is not None and 0 < int(found[1]) < 2**16


def open_strategy(kind: Distribution) -> tf.distribute.Strategy | None:
    """Open the devices that share the work; None for a single one.

    To be called before TensorFlow has computed anything: workers connect while it starts.

    Parameters
    ----------
    kind
        ``"mirrored"``: all GPUs of this machine, or all logical CPU devices if it has no GPU. ``"multiworker"``:
        the workers of ``TF_CONFIG``; this waits until all are there, and ends the process after `CONNECT_S`.

    Raises
    ------
    UsageError
        If there are fewer than two devices, or ``TF_CONFIG`` is not usable.
    ProviderError
        If TensorFlow cannot connect the workers.
    """
    if kind == "none":
        return None
    return _open_mirrored() if kind == "mirrored" else _open_multiworker(read_workers())


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes files and reports: alone, or worker 0."""
    return _worker(strategy) == 0


def count_replicas(strategy: tf.distribute.Strategy | None) -> int:
    """Devices that share the work, over all workers."""
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def local_devices(strategy: tf.distribute.Strategy) -> range:
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
    with explain_lost_worker(), contextlib.nullcontext() if strategy is None else strategy.scope():
        yield


@contextlib.contextmanager
def explain_lost_worker() -> Iterator[None]:
    """Turn TensorFlow's errors for a worker that is gone into one sentence.

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
            "Start the command again on all workers, with `resume=True` to go on after the last complete epoch."
        ) from error


def require_same_settings(strategy: tf.distribute.Strategy | None, settings: Mapping[str, Any]) -> None:
    """Make sure that all workers train on the same scans in the same way; TensorFlow compares nothing of the kind.

    Parameters
    ----------
    settings
        Everything that must be equal, as plain data.

    Raises
    ------
    UsageError
        On every worker, naming what differs.
    """
    if strategy is None:
        return
    first, *others = map(json.loads, exchange(strategy, json.dumps(settings).encode()))
    differences = {name: other.get(name) for other in others for name in first if first[name] != other.get(name)}
    if differences:
        listed = "; ".join(
            f"{name} is {first[name]!r} on worker 0, elsewhere {differences[name]!r}" for name in differences
        )
        raise UsageError(
            f"The workers were not started in the same way: {listed}. "
            "Start the same command on the same scans everywhere."
        )


def send_file(strategy: tf.distribute.Strategy | None, file: Path) -> None:
    """Copy a file that the chief may have to the same path on all workers."""
    if strategy is None:
        return
    content = exchange(strategy, file.read_bytes() if is_chief(strategy) and file.exists() else b"")[0]
    if content and not is_chief(strategy):
        with atomic_file(file) as stream:
            stream.write(content)


def wait_for_all(strategy: tf.distribute.Strategy | None) -> None:
    """Return once all workers have come here: one that leaves early looks to the others as if it had died."""
    if strategy is not None:
        exchange(strategy, b"")


def exchange(strategy: tf.distribute.Strategy, content: bytes) -> list[bytes]:
    """The contents of all devices, those of worker 0 first; waits for all of them."""
    size = WORD.type(len(content)).tobytes()
    padding = bytes(-len(content) % WORD.itemsize)
    words = tf.constant(np.frombuffer(size + content + padding, WORD))
    with explain_lost_worker():
        values = strategy.experimental_distribute_values_from_function(lambda _: words)
        gathered = strategy.gather(values, axis=0).numpy()
    contents = []
    while len(gathered):
        length = int(gathered[0])
        contents.append(gathered[1:].tobytes()[:length])
        gathered = gathered[1 - (-length // WORD.itemsize) :]
    return contents


def _worker(strategy: tf.distribute.Strategy | None) -> int:
    resolver = None if strategy is None else strategy.cluster_resolver
    return 0 if resolver is None else int(resolver.task_id or 0)


def _open_mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise UsageError(
            '`distribute="mirrored"` shares each batch between the GPUs of this machine and needs two or more; '
            f"TensorFlow sees {devices[0].name.removeprefix('/device:')} alone. Leave `distribute` out."
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _open_multiworker(workers: tuple[str, ...]) -> tf.distribute.Strategy:
    LOGGER.info("waiting %g min at most until the same command runs on all of %s", CONNECT_S / 60, ", ".join(workers))
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=COLLECTIVE_S)
    with explain_lost_worker(), _end_process_after(CONNECT_S):
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


@contextlib.contextmanager
def _end_process_after(seconds: float) -> Iterator[None]:
    """End the process if the block takes longer.

    While TensorFlow waits for a worker it holds Python's lock: neither a thread nor a signal handler could do it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
