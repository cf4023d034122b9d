import threading
from collections.abc import Callable

import numpy as np
import pytest

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.streamed_scan import NUM_BUFFERS, Buffer, PlanePrefetcher


def buffers() -> list[Buffer]:
    return [np.zeros(4, np.uint8) for _ in range(NUM_BUFFERS)]


def counting(fail_at: int | None = None) -> Callable[[memoryview], None]:
    """Fills the first buffer with zeros, the next one with ones, and so on."""
    calls = iter(range(1000))

    def fill(buffer: memoryview) -> None:
        number = next(calls)
        if number == fail_at:
            raise UnreadableScanError("truncated", "It ends too early.")
        buffer[:] = bytes([number] * 4)

    return fill


def test_planes_come_in_order_and_the_end_is_checked_behind_them() -> None:
    ends: list[str] = []
    with PlanePrefetcher(counting(), 20, lambda: ends.append(threading.current_thread().name), buffers()) as ahead:
        assert [plane.tolist() for plane in ahead.planes()] == [[n] * 4 for n in range(20)]
    assert ends == ["ct3d-edge read ahead"]


def test_a_plane_is_the_callers_until_the_next_one_is_asked_for() -> None:
    with PlanePrefetcher(counting(), 20, lambda: None, buffers()) as ahead:
        for number, plane in enumerate(ahead.planes()):
            for _ in range(100):
                assert plane.tolist() == [number] * 4


def test_what_goes_wrong_while_reading_is_raised_behind_the_good_planes() -> None:
    with PlanePrefetcher(counting(fail_at=7), 20, lambda: None, buffers()) as ahead:
        planes = ahead.planes()
        assert [int(next(planes)[0]) for _ in range(7)] == list(range(7))
        with pytest.raises(UnreadableScanError, match="too early"):
            next(planes)


def test_what_goes_wrong_at_the_end_is_raised() -> None:
    def finish() -> None:
        raise UnreadableScanError("bad_checksum", "Its checksum is wrong.")

    with (
        PlanePrefetcher(counting(), 2, finish, buffers()) as ahead,
        pytest.raises(UnreadableScanError, match="checksum"),
    ):
        list(ahead.planes())


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_whoever_stops_early_leaves_no_thread(taken: int) -> None:
    before = threading.active_count()
    finished: list[bool] = []
    with PlanePrefetcher(counting(), 20, lambda: finished.append(True), buffers()) as ahead:
        planes = ahead.planes()
        for _ in range(taken):
            next(planes)
    assert threading.active_count() == before
    assert not finished
