"""``ct3d-edge config``: check and show the file that long-running commands take with ``--config``."""

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ct3d_edge.cli.click_extras import StrictCommand, StrictGroup, example_of
from ct3d_edge.cli.config_file import (
    ConfigFile,
    Setting,
    configurable_commands,
    find_lines,
    read_config,
    settable_parameters,
)
from ct3d_edge.formatting import list_names, wrap

if TYPE_CHECKING:
    from ct3d_edge.cli.config_file import ConfigurableCommand

COMMENT_WIDTH = 78


def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file, as --config takes it.")],
) -> None:
    """Check a file: names, types and limits of its options.

    Errors are printed with their lines; the exit code is 2.
    """
    config = read_config(file, configurable_commands(context.find_root().command))
    named = [f"{name} ({len(settings)})" for name, settings in config.settings.items() if settings]
    typer.echo(f"{file}: no errors; settings of {list_names(named)}" if named else f"{file}: no errors, no settings")


def show(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="TOML file; without it, all options are shown.")
    ] = None,
    only: Annotated[str | None, typer.Option("--command", metavar="NAME", help="Show this command alone.")] = None,
) -> None:
    """Print all options of each command as TOML.

    Options that FILE sets come with their line, the others as comments with their defaults. Without FILE, the output
    describes each option and is a file to begin with.
    """
    from ct3d_edge.errors import UsageError

    commands = configurable_commands(context.find_root().command)
    if only is not None and only not in commands:
        raise UsageError(f"--command takes one of {', '.join(commands)}, found {only!r}.")
    config = read_config(file, commands) if file else None
    lines = find_lines(config.text) if config else {}
    tables = [
        "\n".join(_table(name, command, config, lines)) for name, command in commands.items() if only in (None, name)
    ]
    typer.echo("\n\n".join(tables))


def _table(
    name: str, command: "ConfigurableCommand", config: ConfigFile | None, lines: dict[tuple[str, ...], int]
) -> Iterator[str]:
    """The lines of one command."""
    settings = {setting.parameter: setting for setting in config.settings[name]} if config else {}
    yield f"[{name}]"
    for key, parameter in settable_parameters(command).items():
        setting = settings.get(parameter.name)
        if config is None:
            yield from _describe(parameter)
        yield _assignment(key, setting, config, lines) if setting else _default(key, parameter)


def _assignment(key: str, setting: Setting, config: ConfigFile | None, lines: dict[tuple[str, ...], int]) -> str:
    line = lines[setting.table, setting.key]
    return f"{key} = {_to_toml(setting.value)}  # {config.path.name if config else ''}:{line}"


def _default(key: str, parameter: Any) -> str:
    if parameter.required:
        return f"# {key} =  (required)"
    is_unset = parameter.default is None or parameter.default == ()
    return f"# {key} =" if is_unset else f"# {key} = {_to_toml(parameter.default)}"


def _describe(parameter: Any) -> list[str]:
    text = " ".join((parameter.help or "").replace("[required]", "").split())
    return ["", *(f"# {line}" for line in wrap(text, COMMENT_WIDTH, 0).splitlines())]


def _to_toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_to_toml, value))}]"
    if isinstance(value, Enum):
        value = value.value
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


app = typer.Typer(
    cls=StrictGroup,
    help=f"Check and show the TOML file that `--config` takes.\n\n{example_of('config')}",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for command in (check, show):
    app.command(cls=StrictCommand, epilog=example_of(f"config {command.__name__}"))(command)
