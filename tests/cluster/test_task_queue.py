from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ct3d_edge.cluster.task_queue import TaskQueue


def test_each_worker_has_one_scan_in_the_order_of_the_run() -> None:
    queue = TaskQueue[str](["a", "b", "c"])
    assert [queue.assign(worker) for worker in ("1", "2")] == ["a", "b"]
    assert queue.finish("2") == "b"
    assert (queue.assign("2"), queue.waiting) == ("c", 0)
    assert queue.assign("3") is None
    assert not queue.is_empty
    assert [queue.finish("1"), queue.finish("2")] == ["a", "c"]
    assert queue.is_empty


def test_the_second_death_is_blamed_on_the_scan() -> None:
    queue = TaskQueue[int](["bad", "good"])
    assert queue.assign(1) == "bad"
    assert queue.lose(1) is None
    assert queue.assign(2) == "good", "a suspicious scan waits behind the others"
    assert queue.assign(3) == "bad"
    assert queue.lose(3) == "bad"
    queue.finish(2)
    assert queue.is_empty


def test_a_machine_that_leaves_is_not_blamed_on_the_scan() -> None:
    queue = TaskQueue[int](["scan"])
    for worker in range(5):
        assert queue.assign(worker) == "scan"
        assert queue.lose(worker, scan_may_be_the_cause=False) is None
    assert queue.lose(99) is None, "a worker without a scan costs nothing"
    assert queue.assign(9) == "scan"


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_scan_ends_exactly_once(scans: int, workers: int, random: Random) -> None:
    names = [str(number) for number in range(scans)]
    queue, ended = TaskQueue[int](names), []
    idle, busy = list(range(workers)), []
    while not queue.is_empty:
        while idle and queue.waiting:
            busy.append(idle.pop())
            queue.assign(busy[-1])
        worker = busy.pop(random.randrange(len(busy)))
        idle.append(worker)
        if random.random() < 0.4:
            given_up = queue.lose(worker, scan_may_be_the_cause=random.random() < 0.7)
            ended += [given_up] if given_up else []
        else:
            ended.append(queue.finish(worker))
    assert sorted(ended) == sorted(names)
