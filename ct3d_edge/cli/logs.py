"""Messages of commands as log records, with options in place of the library's arguments.

Messages go to standard error as plain lines, and to a file with time and level. Everything goes through the standard
`logging` module, under the logger ``ct3d_edge``. The library names what to change as an argument of its own, in
backquotes: ```allow_fallback=True```.
"""

import json
import logging
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import printable, wrap

if TYPE_CHECKING:
    import click
    from rich.console import Console

ROOT_LOGGER = logging.getLogger("ct3d_edge")


def _log_options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show details too.")] = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", metavar="FILE", help="Add all messages to FILE, with time and level.")
    ] = None,
    log_format: Annotated[Literal["text", "json"], typer.Option("--log-format", help="Format of --log-file.")] = "text",
) -> None:
    """Only its parameters matter; `configure_logging` is given their values."""


def log_parameters() -> "list[click.Parameter]":
    """The options of every command, as typer makes them from a function."""
    app = typer.Typer(add_completion=False)
    app.command()(_log_options)
    return list(typer.main.get_command(app).params)  # type: ignore[arg-type]


LOG_PARAMETER_NAMES = ("quiet", "verbose", "log_file", "log_format")


def configure_logging(quiet: bool, verbose: bool, log_file: Path | None, log_format: str) -> None:
    """Set up the loggers of one run of a command.

    Raises
    ------
    UsageError
        If both --quiet and --verbose are given.
    OutputError
        If the log file cannot be written.
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other.")
    reset_logging()
    ROOT_LOGGER.handlers[0].setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    if log_file is not None:
        ROOT_LOGGER.addHandler(_file_handler(Path(log_file), log_format))
        ROOT_LOGGER.handlers[-1].addFilter(name_options)


def reset_logging() -> None:
    """Plain lines on standard error alone."""
    for handler in list(ROOT_LOGGER.handlers):
        ROOT_LOGGER.removeHandler(handler)
        handler.close()
    ROOT_LOGGER.addHandler(TerminalHandler(logging.INFO))
    ROOT_LOGGER.handlers[-1].addFilter(name_options)
    ROOT_LOGGER.setLevel(logging.DEBUG)
    ROOT_LOGGER.propagate = False


OPTION_OF_ARGUMENT = {
    "activation": "--activation",
    "ae_title": "--ae-title",
    "allow": "--downgrade-check",
    "allow_anonymous": "--allow-anonymous",
    "allow_fallback": "--allow-fallback",
    "atol": "--atol",
    "batch_size": "--batch-size",
    "calibration_data": "--calibration-data",
    "client_ca": "--client-ca",
    "contract": "--contract",
    "converter": "--converter",
    "device_id": "--device-id",
    "distribute": "--strategy",
    "embed_preprocessing": "--embed-preprocessing",
    "gradcam_output": "--with-gradcam-output",
    "host": "--host",
    "labels": "--labels",
    "level": "--optimize",
    "margin": "--margin",
    "max_memory": "--max-memory",
    "network": "--network",
    "overwrite": "--overwrite",
    "parity_data": "--parity-data",
    "peer": "--peer",
    "port": "--port",
    "precision": "--precision",
    "provider": "--provider",
    "provider_options": "--provider-option",
    "report": "--report",
    "resume": "--resume",
    "scan_timeout": "--scan-timeout",
    "send_to": "--send-to",
    "series": "--series-uid",
    "shape": "--shape",
    "skip_bad": "--skip-invalid",
    "split": "--split",
    "spool": "--spool",
    "tls_ca": "--tls-ca",
    "tls_cert": "--tls-cert",
    "tls_key": "--tls-key",
    "token_file": "--token-file",
    "use_tuning": "--ignore-tuning",
    "weight_dtype": "--weight-dtype",
    "workers": "--workers",
}
"""Arguments of the library that messages name, and the options that set them."""

OPTION_OF_VALUE = {"mixed_float16": "--mixed-precision", "mixed_bfloat16": "--mixed-precision"}
"""`precision` of a network in training is another option than that of a file."""

_ARGUMENT = re.compile(rf"`({'|'.join(OPTION_OF_ARGUMENT)})(?:=([^`]*))?`")


def to_option_names(message: str) -> str:
    """Replace arguments by options: ```batch_size=4``` by ``--batch-size 4``, ```allow_fallback=True``` by its flag."""

    def option(found: re.Match[str]) -> str:
        value = (found[2] or "").strip("[]()'\"").replace(", ", " ")
        name = OPTION_OF_VALUE.get(value, OPTION_OF_ARGUMENT[found[1]])
        return name if value in ("", "True", "False") else f"{name} {value}"

    return _ARGUMENT.sub(option, message)


def name_options(record: logging.LogRecord) -> bool:
    """Put options in the place of the library's arguments, which its messages name; lets every record pass."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # logging reports a message that does not fit its arguments by itself
        return True
    record.msg, record.args = to_option_names(message), None
    return True


def _file_handler(path: Path, log_format: str) -> logging.Handler:
    from ct3d_edge.system.atomic_write import write_failure_message

    try:
        handler = LogFileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise write_failure_message(path, error) from error
    handler.setFormatter(JsonLinesFormatter() if log_format == "json" else _text_formatter())
    return handler


class LogFileHandler(logging.FileHandler):
    """A log file; if writing fails, one warning is logged and the command continues without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Give the file up in place of a traceback for each message."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        ROOT_LOGGER.removeHandler(self)
        with suppress(OSError):  # the same error again, of what could not be written just now
            self.close()
        ROOT_LOGGER.warning("the log ends here: Cannot write %s: %s.", self.baseFilename, error.strerror or error)


MESSAGE_INDENT = 4
"""Columns before what continues a line."""

COMMAND_LINE = re.compile(r"\s*(pip|ct3d-edge) ")
"""Lines to copy into a shell, which are not broken."""


class TerminalHandler(logging.Handler):
    """Messages on what is standard error at that moment, broken between words at the width of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        from rich.text import Text

        if getattr(record, "file_only", False):
            return
        console = stderr_console()
        lines = [printable(line) for line in record.getMessage().splitlines()]
        if console.is_terminal:  # a file or pipe keeps each message in one line, for programs that search it
            lines = [_wrap(line, console.width) for line in lines]
        console.print(Text("\n".join(lines)))


def _wrap(line: str, width: int) -> str:
    return line if COMMAND_LINE.match(line) else wrap(line, width, MESSAGE_INDENT, cut_words=False)


def stderr_console() -> "Console":
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class JsonLinesFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, perhaps ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _text_formatter() -> logging.Formatter:
    formatter = logging.Formatter("{asctime}.{msecs:03.0f}Z {levelname:7} {name}: {message}", "%Y-%m-%dT%H:%M:%S", "{")
    formatter.converter = time.gmtime
    return formatter
