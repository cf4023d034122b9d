"""What is reported while a folder of scans is looked through and prepared."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScanHashed:
    """The content of one more scan is known, or cannot be read.

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
class ScanRead:
    """One more scan is prepared, or found unusable.

    Parameters
    ----------
    done, total
        Scans so far, and in all.
    scan
        Its path relative to the data folder.
    reused
        Whether it lay prepared in the cache, so that the scan itself was not read.
    """

    done: int
    total: int
    scan: str
    reused: bool = False


OnHashed = Callable[[ScanHashed], None]
OnRead = Callable[[ScanRead], None]


def silent(event: object) -> None:
    """Ignore the event."""
