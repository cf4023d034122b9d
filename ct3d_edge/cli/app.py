"""``ct3d-edge``: the table of commands, and what happens to errors and signals.

A command's file is imported when the command is used. ``--help`` imports all of them, so nothing heavy is imported at
the top of a command's file.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from ct3d_edge.cli.click_extras import ClosedPipeError, StrictCommand, StrictGroup, example_of
from ct3d_edge.cli.logs import ROOT_LOGGER, reset_logging
from ct3d_edge.errors import Ct3dError, DiskError

COMMANDS = (
    "infer",
    "merge",
    "watch",
    "job",
    "listen",
    "serve",
    "check",
    "preprocess",
    "view",
    "train",
    "distill",
    "evaluate",
    "fit-temperature",
    "export",
    "optimize",
    "tune",
    "inspect",
    "verify",
    "build",
    "package",
    "doctor",
    "bench",
    "data",
    "config",
)
"""In the order of ``--help``. A module has the command's name, and the command is a function of that name; a group is
the module's ``app``. `COMMAND_CLASS` in a module replaces `StrictCommand`."""

FORMER_COMMANDS = {"calibrate": "fit-temperature"}
"""Former names of commands, which are hidden."""


class CommandTable(Mapping[str, Any]):
    """The commands by their names; each is imported when it is first asked for."""

    def __getitem__(self, name: str) -> Any:
        if name not in (*COMMANDS, *FORMER_COMMANDS):
            raise KeyError(name)
        return load_command(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*COMMANDS, *FORMER_COMMANDS))

    def __len__(self) -> int:
        return len(COMMANDS) + len(FORMER_COMMANDS)


@cache
def load_command(name: str) -> Any:
    """Import a command and make it what typer runs."""
    function = FORMER_COMMANDS.get(name, name).replace("-", "_")
    module = import_module(f"ct3d_edge.cli.{function}")
    if hasattr(module, "app"):
        return typer.main.get_group(module.app)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    command_class = getattr(module, "COMMAND_CLASS", StrictCommand)
    epilog = example_of(FORMER_COMMANDS.get(name, name))
    single.command(name, cls=command_class, epilog=epilog, hidden=name in FORMER_COMMANDS)(getattr(module, function))
    return typer.main.get_command(single)


class RootGroup(StrictGroup):
    """``ct3d-edge`` itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = CommandTable()  # type: ignore[assignment]  # typer only reads it


app = typer.Typer(
    name="ct3d-edge",
    cls=RootGroup,
    help=f"3D CT classification at the edge: train, export, run and time a Keras 3D CNN.\n\n{example_of('')}",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all well; 1 finished, but some scans have no result, or lack a map or report; 2 wrong usage; "
    "3 model, provider or environment cannot do what was asked; 4 a parity check or comparison failed; 5 a comparison "
    "is inconclusive; 70 a bug, with its traceback; 71 a worker process ended early; 73 an output cannot be created; "
    "74 the disk is full or fails; "
    "129 SIGHUP; 130 Ctrl-C; 141 the reader of standard output is gone; 143 SIGTERM.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ct3d-edge {version('ct3d-edge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # handled by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


EXIT_INTERNAL_ERROR = 70
"""Exit code of an internal error (EX_SOFTWARE of sysexits.h)."""

EXIT_BROKEN_PIPE = 141
"""What a shell reports for a program that writes to a closed pipe (128 + SIGPIPE)."""


EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C (128 + SIGINT)."""

TERMINATION_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


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

    before = {number: signal.getsignal(number) for number in TERMINATION_SIGNALS}
    taken = [number for number in TERMINATION_SIGNALS if before[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    except SystemExit as end:
        if received and end.code == EXIT_INTERRUPTED:
            sys.exit(128 + received[0])
        raise
    finally:
        for number in taken:
            signal.signal(number, before[number])


def main() -> None:
    """Run the command line; a user's error becomes a sentence and its exit code, a bug its traceback and 70."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold bytes, and a label letters, that this terminal or pipe cannot show.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    reset_logging()
    try:
        with signals_as_interrupts():
            app(prog_name="ct3d-edge")
    except Ct3dError as error:
        ROOT_LOGGER.error("error: %s", error)  # its handlers name options
        sys.exit(error.exit_code)
    except ClosedPipeError:
        _discard_stdout()
        sys.exit(EXIT_BROKEN_PIPE)
    except OSError as error:
        _exit_on_stdout_error(error)
    except Exception as error:
        traceback.print_exc()
        ROOT_LOGGER.critical("bug: %r", error, exc_info=True, extra={"file_only": True})
        sys.exit(EXIT_INTERNAL_ERROR)


def _discard_stdout() -> None:
    """Python would try to write again, and complain, when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_on_stdout_error(error: OSError) -> NoReturn:
    """End when the reader has seen enough (``| head``) or the disk behind ``>`` is full; other errors are bugs."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
        traceback.print_exc()
        sys.exit(EXIT_INTERNAL_ERROR)
    _discard_stdout()
    if error.errno == errno.EPIPE:
        sys.exit(EXIT_BROKEN_PIPE)
    ROOT_LOGGER.error("error: Cannot write to standard output: %s.", error.strerror)
    sys.exit(DiskError.exit_code)
