"""Messages of commands besides their results: on standard error, with a progress bar on a terminal only."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ct3d_edge.cli.logs import ROOT_LOGGER, reset_logging, stderr_console
from ct3d_edge.formatting import printable, wrap

if TYPE_CHECKING:
    from ct3d_edge.scan.dicom.series_query import SkippedFile
    from ct3d_edge.session.run_report import RunReport

T = TypeVar("T")

LOGGER = logging.getLogger("ct3d_edge.cli")

DEFAULT_PIPE_WIDTH = 80
"""Columns without a terminal, unless COLUMNS is set."""

PROGRESS_INTERVAL_S = 30.0
"""Seconds between two lines on progress."""

MIN_WIDTH = 40
"""Columns below which nothing is laid out."""


class _StdoutConsole(Console):
    """Standard output; when its reader is gone, rich would exit with 1, which means that scans have no result."""

    def on_broken_pipe(self) -> None:
        """Pass on the error that rich is handling."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


def stdout_console() -> Console:
    """Standard output, as wide as its terminal; elsewhere COLUMNS characters, or 80."""
    console = Console(highlight=False)
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        width = int(columns)
    else:
        width = console.width if console.is_terminal else DEFAULT_PIPE_WIDTH
    return _StdoutConsole(highlight=False, width=max(width, MIN_WIDTH))


def print_lines(lines: Iterable[str], indent: int = 4) -> None:
    """Print lines on standard output; those wider than it are broken between words."""
    console = stdout_console()
    for line in lines:
        console.print(Text(wrap(printable(line), console.width, indent)))


def log(text: str, level: int = logging.INFO) -> None:
    """One message on standard error, printed as it is, and in the log file with time and level."""
    if not ROOT_LOGGER.handlers:  # a command that another program than ct3d-edge has called
        reset_logging()
    LOGGER.log(level, "%s", text)


def log_run_report(run_report: "RunReport") -> None:
    """Which provider does the work, and why not the ones before it; what nobody here expects with --verbose only."""
    shown = run_report.notes()
    for note in run_report.notes(verbose=True):
        log(note, logging.INFO if note in shown else logging.DEBUG)
    log(run_report.describe())


def log_skipped(passed_over: "Iterable[SkippedFile]") -> None:
    """Log the files of a folder that were skipped."""
    for each in passed_over:
        log(f"not taken: {each.path}: {each.code}: {each.reason}")


class ProgressLines:
    """Progress where nobody looks on: a line of the log every `PROGRESS_INTERVAL_S` seconds, with rate and time left.

    Parameters
    ----------
    total
        Items; None if it is not known.
    what
        Their name.
    clock
        Seconds that never go back.
    """

    def __init__(self, total: int | None, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._what, self._clock = total, what, clock
        self._done, self._begun = 0, clock()
        self._last = self._begun

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        now = self._clock()
        if now - self._last < PROGRESS_INTERVAL_S or self._done == self._total:
            return
        self._last = now
        rate = self._done / (now - self._begun)
        if self._total is None:
            log(f"{self._what}: {self._done}, {rate:.2g} a second")
            return
        left = timedelta(seconds=round((self._total - self._done) / rate))
        log(f"{self._what}: {self._done} of {self._total}, {rate:.2g} a second, {left} left")


@contextmanager
def report_progress(total: int | None, what: str) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each of ``total`` items (None: unknown): a bar on a terminal, else lines."""
    console = stderr_console()
    if not console.is_terminal:
        yield ProgressLines(total, what).advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def show_elapsed(what: str) -> Iterator[None]:
    """Show the time that something takes whose end is not known; nothing in a pipe."""
    console = stderr_console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        bar.add_task(what, total=None)
        yield


def track_progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items on and show the progress."""
    with report_progress(total, what) as advance:
        for item in items:
            yield item
            advance()


class ProgressBars:
    """A `ct3d_edge.progress.Progress` that shows one bar after the other, on a terminal only."""

    def __init__(self) -> None:
        self._bar = ExitStack()
        self._what: str | None = None
        self._advance: Callable[[], None] = lambda: None

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """One more of ``total`` is done; the first of a step begins a new bar, and a full one goes."""
        if what != self._what or done == 1:
            self._bar.close()
            self._what, self._advance = what, self._bar.enter_context(report_progress(total, what))
        self._advance()
        if done == total:
            self._bar.close()
