"""How long work tells its caller what is done."""

from typing import Protocol


class Progress(Protocol):
    """Called after each step of long work."""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """``done`` of ``total`` are done, None where the end is not known; ``what`` names them: ``Scans``."""
        ...


def no_progress(done: int, total: int | None, what: str) -> None:
    """Show nothing."""
