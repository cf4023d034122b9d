"""What fetching a dataset reports while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Moved:
    """Bytes have arrived or have been unpacked.

    Parameters
    ----------
    what
        The work that goes on, e.g. ``"Downloading CT-0.zip"``.
    done, total
        Bytes so far, and in all.
    """

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Noted:
    """Something a person may want to know: a sentence without its full stop."""

    text: str


Event = Moved | Noted
OnEvent = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore the event."""
