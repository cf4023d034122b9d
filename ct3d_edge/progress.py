"""One callback for the progress of long work: how much of it is done."""

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one step of a long piece of work, in the caller's thread."""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """Note that ``done`` of ``total`` items are done.

        Parameters
        ----------
        done
            Items so far, from 1.
        total
            Items in all; None if it is not known.
        what
            Name of the step, such as ``"Preparing scans"``. A step of another name has begun when it changes.
        """


def no_progress(done: int, total: int | None, what: str) -> None:
    """Ignore the progress."""
