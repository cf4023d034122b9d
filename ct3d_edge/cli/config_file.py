"""Options of long-running commands in a TOML file: ``--config FILE``, for every `ConfigurableCommand`.

A command has a table of its own name, in which each option stands under the option's name without dashes
(``poll-interval = 2``) and an argument under the name that the usage line gives it (``incoming``). The table ``shared``
holds options of several commands. A command's own table takes precedence over ``shared``, and the command line over
both. A relative path is relative to the folder of the file.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from ct3d_edge.cli.click_extras import StrictCommand, reword_value_error
from ct3d_edge.errors import UsageError

SHARED_TABLE = "shared"
MAX_FILE_BYTES = 1 << 16
"""No file of options is longer."""

UNSETTABLE = frozenset({"config", "help"})
"""Parameters that have no place in the file."""

Commands = Mapping[str, Any]
"""Commands of click by their names."""


@dataclass(frozen=True)
class Setting:
    """One option with a value in the file.

    Parameters
    ----------
    parameter
        Name of the command's parameter, as click's ``default_map`` takes it.
    value
        Checked against the parameter's type; paths are absolute.
    table, key
        Where it stands in the file.
    """

    parameter: str
    value: Any
    table: str
    key: str


@dataclass(frozen=True)
class ConfigFile:
    """A file without errors: its path, its text and the settings of each command."""

    path: Path
    text: str
    settings: Mapping[str, tuple[Setting, ...]]

    def default_map(self, command: str) -> dict[str, Any]:
        """Values by parameter, as click takes them."""
        return {setting.parameter: setting.value for setting in self.settings.get(command, ())}


class ConfigurableCommand(StrictCommand):
    """A command that takes ``--config FILE``."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params = [*self.params, _config_parameter()]


def configurable_commands(root: Any) -> dict[str, ConfigurableCommand]:
    """The commands of a group that take ``--config``."""
    commands = getattr(root, "commands", {})
    return {name: command for name, command in commands.items() if isinstance(command, ConfigurableCommand)}


def settable_parameters(command: Any) -> dict[str, Any]:
    """The parameters of a command by their keys in the file."""
    shown = (each for each in command.params if each.name not in UNSETTABLE and not getattr(each, "hidden", False))
    return {_key(parameter): parameter for parameter in shown}


def read_config(path: Path, commands: Commands) -> ConfigFile:
    """Read and check a file.

    Parameters
    ----------
    commands
        Those that may have a table.

    Raises
    ------
    UsageError
        With all errors of the file, each with its line.
    """
    text = _read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    check = _Check(path.resolve().parent, commands)
    found = {name: {each.parameter: each for each in check.command_settings(name, data)} for name in commands}
    check.find_unknown(data)
    if check.errors:
        lines = find_lines(text)
        errors = sorted((lines.get(key, 1), message) for key, message in check.errors.items())
        raise UsageError("\n".join(f"{path}:{line}: {message}" for line, message in errors))
    return ConfigFile(path, text, {name: tuple(settings.values()) for name, settings in found.items()})


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line at which each table and each key of a table begins, by ``(table,)`` or ``(table, key)``; from 1.

    `tomllib` gives no lines. A statement ends with the first line up to which the text can be parsed.
    """
    lines, first = text.split("\n"), 1
    found: dict[tuple[str, ...], int] = {}
    for last in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:last]))
        except tomllib.TOMLDecodeError:
            continue
        for table, value in data.items():
            keys = value if isinstance(value, dict) else ()
            for key in ((table,), *((table, key) for key in keys)):
                found.setdefault(key, first)
        first = last + 1
    return found


class _Check:
    """The settings of a parsed file, and its errors by the key at which they stand.

    Parameters
    ----------
    folder
        To which relative paths are relative.
    """

    def __init__(self, folder: Path, commands: Commands) -> None:
        self._folder, self._commands = folder, commands
        self.errors: dict[tuple[str, ...], str] = {}

    def command_settings(self, name: str, data: dict[str, Any]) -> Iterator[Setting]:
        """What the file holds for a command; what its own table holds comes after ``shared`` and replaces it."""
        parameters = settable_parameters(self._commands[name])
        for table in (SHARED_TABLE, name):
            values = data.get(table, {})
            for key in parameters.keys() & values.keys() if isinstance(values, dict) else ():
                try:
                    taken = parse_value(self._commands[name], parameters[key], values[key], self._folder)
                except UsageError as error:
                    self.errors[table, key] = f"{key} in [{table}]: {error}"
                else:
                    yield Setting(parameters[key].name, taken, table, key)

    def find_unknown(self, data: dict[str, Any]) -> None:
        """Note tables and keys that no command has."""
        known = {name: set(settable_parameters(command)) for name, command in self._commands.items()}
        tables = {SHARED_TABLE: set().union(*known.values()), **known}
        for table, values in data.items():
            if not isinstance(values, dict):
                self.errors[(table,)] = (
                    f"{table} stands in no table; write it below [{SHARED_TABLE}] or [{next(iter(known))}]."
                )
            elif table not in tables:
                self.errors[(table,)] = f"There is no table [{table}].{suggest_name(table, tables)}"
            else:
                for key in values.keys() - tables[table]:
                    whose = "no command has" if table == SHARED_TABLE else f"`{table}` does not have"
                    self.errors[table, key] = (
                        f"{key} in [{table}] is an option that {whose}.{suggest_name(key, tables[table])}"
                    )


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} has more than {MAX_FILE_BYTES} bytes; --config takes a short TOML file of options.")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")  # Notepad writes a byte order mark
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}).") from error


def _key(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).lower()
    return str(max(parameter.opts, key=len)).lstrip("-")


def suggest_name(word: str, known: Collection[str]) -> str:
    """A sentence with the nearest of the known names, or with all if none is near; it begins with a space."""
    near = get_close_matches(word.lower().replace("_", "-"), known, n=1)
    if near:
        return f" Did you mean {near[0]}?"
    return f" There are: {', '.join(sorted(known))}."


def parse_value(command: Any, parameter: Any, value: Any, folder: Path) -> Any:
    """The value of a TOML or JSON file as the parameter of a command takes it, with paths relative to ``folder``.

    Raises
    ------
    UsageError
        If it is of another type, or outside the option's limits.
    """
    multiple = getattr(parameter, "multiple", False)
    if multiple and not isinstance(value, list):
        raise UsageError(f"takes a list: [{value!r}].")
    try:
        parsed = parameter.process_value(typer.Context(command, resilient_parsing=True), value)
    except typer.BadParameter as error:
        if isinstance(error.__cause__, UsageError) and not (multiple or isinstance(value, str)):
            raise UsageError(f"takes text, found {_shown(value)}.") from error
        reword_value_error(error)
        raise UsageError(error.message) from error
    if not _has_type_of(value, parsed):
        raise UsageError(f"takes {_toml_type(parsed)}, found {_shown(value)}.")
    return _resolve_paths(parsed, folder)


def _has_type_of(value: Any, parsed: Any) -> bool:
    """Whether a TOML value had the right type already: options take "2" for 2, and "yes" for true."""
    if isinstance(parsed, list | tuple):
        return isinstance(value, list) and all(map(_has_type_of, value, parsed))
    return _toml_type(value) == _toml_type(parsed) or (type(value), type(parsed)) == (int, float)


def _toml_type(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "text")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{_toml_type(value)} {value!r}"


def _resolve_paths(value: Any, folder: Path) -> Any:
    if isinstance(value, list | tuple):
        return [_resolve_paths(each, folder) for each in value]
    return folder / value if isinstance(value, Path) else value


def _config_parameter() -> Any:
    """The option, as typer makes it from a function."""
    app = typer.Typer(add_completion=False)
    app.command()(_config_option)
    return typer.main.get_command(app).params[0]


def _apply_config(context: typer.Context, path: Path | None) -> None:
    """Take the values of the file as defaults of the options, before those are processed."""
    if path is None or context.resilient_parsing:
        return
    name = context.info_name or ""
    commands: Commands = configurable_commands(context.find_root().command) or {name: context.command}
    context.default_map = read_config(path, commands).default_map(name)


def _config_option(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_apply_config,
            help="TOML file with options; `ct3d-edge config show` prints one. The command line takes precedence.",
        ),
    ] = None,
) -> None:
    """Only its parameter matters."""
