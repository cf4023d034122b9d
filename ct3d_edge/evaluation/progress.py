"""What is reported while a model is judged."""

from collections.abc import Callable
from dataclasses import dataclass

from ct3d_edge.cohort import ScanHashed


@dataclass(frozen=True)
class ScanJudged:
    """The model has answered for one more scan, or cannot.

    Parameters
    ----------
    done, total
        Scans so far, and in all.
    scan
        Its path relative to the data folder.
    """

    done: int
    total: int
    scan: str


@dataclass(frozen=True)
class Resampled:
    """The figures of one more bootstrap resample are known."""

    done: int
    total: int


Event = ScanHashed | ScanJudged | Resampled
OnProgress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore the event."""
