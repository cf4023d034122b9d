"""A clock that moves only when it is told to."""

from collections.abc import Callable

import pytest


class FakeClock:
    """A clock whose time is a number."""

    def __init__(self) -> None:
        self.nanoseconds = 1_000_000_007

    def now(self) -> int:
        return self.nanoseconds

    def wait_until(self, moment: int) -> None:
        self.nanoseconds = max(self.nanoseconds, moment)

    def pass_ms(self, milliseconds: float) -> None:
        self.nanoseconds += round(milliseconds * 1e6)

    def taking(self, *milliseconds: float) -> Callable[[], None]:
        """Work whose calls take these times one after the other."""
        left = list(milliseconds)
        return lambda: self.pass_ms(left.pop(0))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
