from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.training import Order, batches

COUNT = 20
LABELS = np.arange(COUNT, dtype=np.float32) % 2
VOLUMES = np.broadcast_to(np.arange(COUNT, dtype=np.float32)[:, None, None, None], (COUNT, 3, 2, 1))
"""Filled with their own row number."""


def _rows(stream: Any) -> list[list[int]]:
    return [volumes[:, 0, 0, 0, 0].astype(int).tolist() for volumes, _ in stream.as_numpy_iterator()]


def test_pairs_of_volumes_and_labels() -> None:
    pairs = list(batches(VOLUMES, LABELS, Order(range(5), 2)).as_numpy_iterator())
    assert [volumes.shape for volumes, _ in pairs] == [(2, 3, 2, 1, 1), (2, 3, 2, 1, 1), (1, 3, 2, 1, 1)]
    assert [labels.tolist() for _, labels in pairs] == [[[0], [1]], [[0], [1]], [[0]]]


def test_without_a_seed_rows_keep_their_order() -> None:
    assert _rows(batches(VOLUMES, LABELS, Order(range(4, 7), 2))) == [[4, 5], [6]]


def test_every_epoch_has_an_order_of_its_own_and_all_rows() -> None:
    first, second = _rows(batches(VOLUMES, LABELS, Order(range(COUNT), COUNT, seed=3), range(2)))
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second


def test_an_epoch_is_the_same_wherever_the_stream_begins() -> None:
    order = Order(range(COUNT), 6, seed=3)
    whole = _rows(batches(VOLUMES, LABELS, order, range(3)))
    assert order.steps == 4
    assert _rows(batches(VOLUMES, LABELS, order, range(2, 3))) == whole[8:]
    assert [order.of_batch(2, step).tolist() for step in range(4)] == whole[8:]


def test_shuffled_batches_keep_the_pairs() -> None:
    for volumes, labels in batches(VOLUMES, LABELS, Order(range(COUNT), 3, seed=1)).as_numpy_iterator():
        assert (volumes[:, 0, 0, 0, 0] % 2 == labels[:, 0]).all()


class _Draw:
    """Adds one number from the generator."""

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        return volume + rng.random(dtype=np.float32) / 2


@pytest.mark.parametrize("workers", [1, 4])
def test_changes_depend_on_seed_epoch_and_row_alone(workers: int) -> None:
    def drawn(order: Order, epochs: range) -> dict[int, float]:
        stream = batches(VOLUMES, LABELS, order, epochs, _Draw(), workers)
        values = np.concatenate([volumes[:, 0, 0, 0, 0] for volumes, _ in stream.as_numpy_iterator()])
        return {int(value): float(value % 1) for value in values}

    first = drawn(Order(range(COUNT), 3, seed=1), range(1))
    assert len(set(first.values())) == COUNT
    assert drawn(Order(range(COUNT), 7, seed=1), range(1)) == first
    assert drawn(Order(range(COUNT), 3, seed=1), range(1, 2)) != first
    assert drawn(Order(range(COUNT), 3, seed=2), range(1)) != first
