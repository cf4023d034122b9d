"""A measurement that ends early: what it has is a record, marked incomplete, and the reason is not lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ct3d_edge.latency import BenchRecord


class BrokenOffError(Exception):
    """A measurement failed or was interrupted; its cause is the failure.

    Parameters
    ----------
    record
        What there is.
    """

    def __init__(self, record: BenchRecord) -> None:
        super().__init__(record.incomplete)
        self.record = record

    def __reduce__(self) -> "tuple[type[BrokenOffError], tuple[BenchRecord]]":
        """Pickle with the record, which ``args`` does not hold."""
        return type(self), (self.record,)


@contextmanager
def keep_what_was_taken(record: Callable[[str], BenchRecord]) -> Iterator[None]:
    """Turn any end but the regular one into a ``BrokenOffError`` with the record made for its reason."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        reason = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        raise BrokenOffError(record(reason)) from error
