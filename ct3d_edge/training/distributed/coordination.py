"""What the workers of a run tell each other besides the figures of its steps: sums and bytes, through TensorFlow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.errors import UsageError
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.training.distributed.strategy import is_chief, lost_worker_named

WORD = np.dtype(np.int64)
"""What bytes travel as: NCCL adds up no single bytes."""


def wait_for_all(strategy: tf.distribute.Strategy | None) -> None:
    """Return once all workers have come here: one that leaves early looks to the others as if it had died."""
    if strategy is not None:
        _sum(strategy, np.ones(1, WORD))


def require_agreement(strategy: tf.distribute.Strategy | None, settings: Mapping[str, Any]) -> None:
    """Make sure that all workers train on the same thing in the same way.

    Parameters
    ----------
    settings
        Everything that must be equal, as plain data.

    Raises
    ------
    UsageError
        On every worker, if one has other settings than the chief; on that one with what differs.
    """
    if strategy is None:
        return
    differences = differing(settings, json.loads(_from_chief(strategy, json.dumps(settings).encode())))
    if _sum(strategy, np.array([len(differences)], WORD))[0]:
        raise UsageError(
            f"The workers were not started in the same way: {differences or 'another one says what differs'}. "
            "Start the same command on the same scans everywhere."
        )


def differing(mine: Mapping[str, Any], chiefs: Mapping[str, Any]) -> str:
    """Which settings differ, in words; empty if none do."""
    names = [name for name in mine if mine[name] != chiefs.get(name)]
    return "; ".join(f"{name} is {mine[name]!r} here and {chiefs.get(name)!r} on worker 0" for name in names)


def hand_out(strategy: tf.distribute.Strategy | None, file: Path) -> None:
    """Copy a file that the chief may have to the same place on all workers."""
    if strategy is None:
        return
    content = _from_chief(strategy, file.read_bytes() if is_chief(strategy) and file.exists() else b"")
    if content and not is_chief(strategy):
        with atomic_file(file) as stream:
            stream.write(content)


def _from_chief(strategy: tf.distribute.Strategy, content: bytes) -> bytes:
    """The bytes that the chief has, on every worker."""
    mine = content if is_chief(strategy) else b""
    size = int(_first(strategy, np.array([len(mine)], WORD))[0])
    words = np.zeros(-(-size // WORD.itemsize), WORD)
    words.view(np.uint8)[: len(mine)] = np.frombuffer(mine, np.uint8)
    return _first(strategy, words).tobytes()[:size]


def _first(strategy: tf.distribute.Strategy, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the first device: a sum in which all others are zero."""
    return _sum(strategy, numbers, first_alone=True)


def _sum(strategy: tf.distribute.Strategy, numbers: NDArray[np.int64], first_alone: bool = False) -> NDArray[np.int64]:
    """Add up as many numbers of each device over all workers; waits for all of them."""

    def of_device(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        silent = first_alone and context.replica_id_in_sync_group != 0
        return tf.constant(np.zeros_like(numbers) if silent else numbers)

    with lost_worker_named():
        values = strategy.experimental_distribute_values_from_function(of_device)
        added: NDArray[np.int64] = strategy.reduce("SUM", values, axis=None).numpy()
    return added
