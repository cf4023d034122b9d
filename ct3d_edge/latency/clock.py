"""Time, as something that can be replaced."""

import time
from typing import Protocol


class Clock(Protocol):
    """Anything that tells a monotonic time, and can wait."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""
        ...

    def wait_until(self, moment: int) -> None:
        """Return when ``now`` would tell ``moment`` or later; at once if it is past."""
        ...


class WallClock:
    """The operating system's monotonic clock of the highest resolution."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""
        return time.perf_counter_ns()

    def wait_until(self, moment: int) -> None:
        """Sleep until ``moment``."""
        while (left := moment - self.now()) > 0:
            time.sleep(left / 1e9)


class StageTimer:
    """Splits what happens between its start and ``lap`` calls into named stages.

    Parameters
    ----------
    clock
        Where the time comes from.
    stages
        Stage to its duration in ms; continues what an earlier timer began, if given.
    """

    def __init__(self, clock: Clock, stages: dict[str, float] | None = None) -> None:
        self.stages = {} if stages is None else stages
        self._clock = clock
        self._last = clock.now()

    def lap(self, stage: str) -> None:
        """Everything since the last call (or the start) was ``stage``; a stage may come more than once."""
        now = self._clock.now()
        self.stages[stage] = self.stages.get(stage, 0.0) + (now - self._last) / 1e6
        self._last = now

    def move(self, milliseconds: float, stage: str, to: str) -> None:
        """Give a part of ``stage`` that was measured elsewhere a name of its own."""
        self.stages[stage] -= milliseconds
        self.stages[to] = self.stages.get(to, 0.0) + milliseconds
