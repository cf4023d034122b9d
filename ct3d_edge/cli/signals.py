"""SIGTERM and SIGHUP end a command as Ctrl-C does: what there is is kept, and the exit code tells the signal."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C (128 + SIGINT)."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt when systemd, a container engine or a scheduler stops the process.

    Where a command then ends with the exit code of Ctrl-C, it is replaced by 128 plus the signal. A signal that was
    ignored when the command began, as by ``nohup``, stays ignored.
    """
    received: list[int] = []
    owner = os.getpid()

    def interrupt(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker, which is stopped by this signal: no traceback of its own
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    except SystemExit as end:
        if received and end.code == INTERRUPTED:
            sys.exit(128 + received[0])
        raise
    finally:
        for number in taken:
            signal.signal(number, before[number])
