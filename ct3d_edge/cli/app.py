"""``ct3d-edge``: the commands put together, and what happens to errors.

Nothing heavy is imported here or at the top of a command's file, so that ``--help`` answers at once.
"""

import os
import sys
from typing import Annotated

import typer

from ct3d_edge.cli import bench, data, export, infer, inspect, preprocess, train, verify
from ct3d_edge.errors import Ct3dError

app = typer.Typer(
    name="ct3d-edge",
    help="3D CT classification at the edge: train, export, run and time a Keras 3D CNN.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all well; 1 finished, but some scans have no result; 2 wrong usage; 3 model, provider or "
    "environment cannot do what was asked; 4 a proof or comparison did not hold.",
)
app.command()(infer.infer)
app.command()(preprocess.preprocess)
app.command()(train.train)
app.command()(export.export)
app.command()(inspect.inspect)
app.command()(verify.verify)
app.command()(bench.bench)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ct3d-edge {version('ct3d-edge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a user's error becomes one line and its exit code, a bug its traceback."""
    try:
        app(prog_name="ct3d-edge")
    except Ct3dError as error:
        # A message may quote bytes of a file name that the terminal's encoding cannot show.
        text = f"error: {error}".encode(sys.stderr.encoding or "utf-8", "backslashreplace")
        typer.echo(text, err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
