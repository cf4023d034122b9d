from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.training.batches import BatchOrder, WorkerShare, batches

COUNT = 20
LABELS = np.arange(COUNT, dtype=np.float32) % 2
VOLUMES = np.broadcast_to(np.arange(COUNT, dtype=np.float32)[:, None, None, None], (COUNT, 3, 2, 1))
"""Filled with their own row number."""


def _rows(stream: Any) -> list[list[int]]:
    return [volumes[:, 0, 0, 0, 0].astype(int).tolist() for volumes, _ in stream.as_numpy_iterator()]


def test_pairs_of_volumes_and_labels() -> None:
    pairs = list(batches(VOLUMES, LABELS, BatchOrder(range(5), 2)).as_numpy_iterator())
    assert [volumes.shape for volumes, _ in pairs] == [(2, 3, 2, 1, 1), (2, 3, 2, 1, 1), (1, 3, 2, 1, 1)]
    assert [labels.tolist() for _, labels in pairs] == [[[0], [1]], [[0], [1]], [[0]]]


def test_without_a_seed_rows_keep_their_order() -> None:
    assert _rows(batches(VOLUMES, LABELS, BatchOrder(range(4, 7), 2))) == [[4, 5], [6]]


def test_every_epoch_has_an_order_of_its_own_and_all_rows() -> None:
    first, second = _rows(batches(VOLUMES, LABELS, BatchOrder(range(COUNT), COUNT, seed=3), range(2)))
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second


def test_an_epoch_is_the_same_wherever_the_stream_begins() -> None:
    order = BatchOrder(range(COUNT), 6, seed=3)
    whole = _rows(batches(VOLUMES, LABELS, order, range(3)))
    assert order.steps == 4
    assert _rows(batches(VOLUMES, LABELS, order, range(2, 3))) == whole[8:]
    assert [order.of_batch(2, step).tolist() for step in range(4)] == whole[8:]


def test_shuffled_batches_keep_the_pairs() -> None:
    for volumes, labels in batches(VOLUMES, LABELS, BatchOrder(range(COUNT), 3, seed=1)).as_numpy_iterator():
        assert (volumes[:, 0, 0, 0, 0] % 2 == labels[:, 0]).all()


class _Draw:
    """Adds one number from the generator."""

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        return volume + rng.random(dtype=np.float32) / 2


@pytest.mark.parametrize("workers", [1, 4])
def test_changes_depend_on_seed_epoch_and_row_alone(workers: int) -> None:
    def drawn(order: BatchOrder, epochs: range) -> dict[int, float]:
        stream = batches(VOLUMES, LABELS, order, epochs, _Draw(), workers)
        values = np.concatenate([volumes[:, 0, 0, 0, 0] for volumes, _ in stream.as_numpy_iterator()])
        return {int(value): float(value % 1) for value in values}

    first = drawn(BatchOrder(range(COUNT), 3, seed=1), range(1))
    assert len(set(first.values())) == COUNT
    assert drawn(BatchOrder(range(COUNT), 7, seed=1), range(1)) == first
    assert drawn(BatchOrder(range(COUNT), 3, seed=1), range(1, 2)) != first
    assert drawn(BatchOrder(range(COUNT), 3, seed=2), range(1)) != first


def _shares(order: BatchOrder, epoch: int) -> list[list[list[int]]]:
    """Rows by step and device, all devices being those of one worker."""
    share = WorkerShare(order, range(order.devices))
    rows = [share.of_batch(epoch, step).tolist() for step in range(share.steps)]
    return [rows[first : first + order.devices] for first in range(0, len(rows), order.devices)]


def _rows_of(step: list[list[int]]) -> list[int]:
    return [row for share in step for row in share]


@pytest.mark.parametrize("devices", [2, 3, 4])
def test_equal_shares_of_the_very_batches_of_one_device(devices: int) -> None:
    for count in range(4, 30):
        order = BatchOrder(range(count), 12, 1, devices, equal=True)
        rows = BatchOrder(range(count), 12, 1).of_epoch(0).tolist()[: count // devices * devices]
        dealt = _shares(order, 0)
        assert list(map(_rows_of, dealt)) == [rows[first : first + 12] for first in range(0, len(rows), 12)]
        assert all(len({len(share) for share in step}) == 1 for step in dealt)


def test_another_row_sits_out_in_another_epoch() -> None:
    order = BatchOrder(range(7), 4, 1, 2, equal=True)
    out = [set(range(7)) - set(order.of_epoch(epoch).tolist()) for epoch in range(60)]
    assert all(len(rows) == 1 for rows in out)
    assert set.union(*out) == set(range(7))


@pytest.mark.parametrize("devices", [1, 2, 3, 4])
def test_shares_of_all_rows_differ_by_one_at_most(devices: int) -> None:
    for count in range(4, 30):
        dealt = _shares(BatchOrder(range(count), 12, None, devices), 0)
        assert _rows_of(list(map(_rows_of, dealt))) == list(range(count))
        for step in dealt:
            lengths = [len(share) for share in step]
            assert 1 <= min(lengths) <= max(lengths) <= min(lengths) + 1
            assert sum(lengths) < 12 + devices


def test_a_worker_streams_the_shares_of_its_devices_in_turn() -> None:
    order = BatchOrder(range(COUNT), 8, 1, 4, equal=True)
    theirs = WorkerShare(order, range(2, 4))
    expected = [share for epoch in range(2) for step in _shares(order, epoch) for share in step[2:]]
    assert _rows(batches(VOLUMES, LABELS, theirs, range(2))) == expected


def test_changes_of_a_row_are_the_same_on_every_device() -> None:
    order = BatchOrder(range(COUNT), 4, 1, 2, equal=True)
    alone, shared = (
        [volumes for volumes, _ in batches(VOLUMES, LABELS, dealt, range(2), _Draw()).as_numpy_iterator()]
        for dealt in (order, WorkerShare(order, range(2)))
    )
    np.testing.assert_array_equal(np.concatenate(alone), np.concatenate(shared))
