"""The help of every command, and what a shell completes."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from builders import MakeModel

from ct3d_edge.cli.app import app
from ct3d_edge.cli.click_extras import EXAMPLES

from .conftest import Run

WIDTH = 80


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it, but for the former names of commands."""
    if getattr(command, "hidden", False):
        return
    yield path, command
    for name, further in getattr(command, "commands", {}).items():
        yield from commands(further, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


@pytest.fixture
def help_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lines of a command's help on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    return lambda path: run(*path, "--help").out.splitlines()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_a_terminal_and_has_an_example(help_of: Any, path: tuple[str, ...]) -> None:
    lines = help_of(path)
    assert max(map(len, lines)) <= WIDTH
    assert f"  Example: {EXAMPLES[' '.join(path)]}" in lines
    begin = lines.index("Commands:") if "Commands:" in lines else len(lines)
    assert not [line for line in lines[begin:] if line.endswith("...")], "no description is cut off"


def test_every_option_and_argument_is_described() -> None:
    bare = [
        (path, parameter.name)
        for path, command in ALL.items()
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and not getattr(parameter, "help", None)
    ]
    assert bare == []


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_examples_parse(path: tuple[str, ...]) -> None:
    program, *words = shlex.split(EXAMPLES[" ".join(path)])
    command, rest = ALL[()], words
    while getattr(command, "commands", None) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    assert program == "ct3d-edge"
    assert words[: len(path)] == list(path)
    assert command.make_context(" ".join(words), rest).params


def test_there_is_an_example_of_nothing_else() -> None:
    assert set(EXAMPLES) == {" ".join(path) for path in ALL}


def test_model_and_out_are_the_same_options_everywhere() -> None:
    spellings = {
        (parameter.name, tuple(parameter.opts))
        for command in ALL.values()
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.name in ("model", "out")
    }
    assert spellings == {("model", ("--model", "-m")), ("out", ("--out", "-o"))}
    letters = {"-m": "model", "-o": "out"}
    for command in ALL.values():
        for parameter in command.params:
            assert all(letters.get(option, parameter.name) == parameter.name for option in parameter.opts)


def test_a_model_without_its_option_still_counts_and_is_told(run: Run, make_model: MakeModel) -> None:
    model = make_model()
    outcome = run("inspect", model)
    assert outcome.code == 0
    assert f"deprecated: write --model {model}" in outcome.err
    assert run("inspect", "--model", model).out == outcome.out
    assert "deprecated" not in run("inspect", "--model", model).err
    twice = run("verify", model, "--model", model)
    assert (twice.code, twice.err) == (
        2,
        f"error: --model names {model}, so that {model} is one argument too many.\n",
    )
    assert "[ARGUMENT]" not in run("inspect", "--help").out


@pytest.mark.parametrize("command", ["evaluate", "fit-temperature", "optimize", "export", "tune"])
def test_a_model_that_must_be_named_is_asked_for(run: Run, command: str, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "x.onnx"] if command in ("optimize", "export") else []
    outcome = run(command, *out)
    assert (outcome.code, outcome.err) == (2, "error: Name the model: --model FILE.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "-n", "x"], "'x' is not a whole number."),
        (["bench", "-n", "0"], "0 is too small; the smallest value is 1."),
        (["watch", "in", "-o", "x.jsonl", "--poll-interval", "soon"], "'soon' is not a number."),
        (["export", "-m", "x", "-o", "y", "--atol", "3"], "3 is too large; the largest value is 0.1."),
        (["infer", "x", "-p", "npu"], "'npu' is not one of 'auto', 'tensorrt'"),
        (["data", "synth", "-o", "x", "--shape", "1", "2", "z"], "'z' is not a whole number."),
    ],
    ids=" ".join,
)
def test_a_value_that_cannot_be_taken_is_named(run: Run, arguments: list[str], message: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    for word in ("Input should", "Value error", "pars"):
        assert word not in outcome.err


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="there is no bash here")
def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    program = tmp_path / "ct3d-edge"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from ct3d_edge.cli.app import main; main()' \"$@\"\n")
    program.chmod(0o755)
    script = tmp_path / "try.sh"
    script.write_text(
        """
eval "$(ct3d-edge --show-completion)"
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _ct3d_edge_completion ct3d-edge "${COMP_WORDS[COMP_CWORD]}"
    echo "${COMPREPLY[@]}"
}
complete -p ct3d-edge
try ct3d-edge in
try ct3d-edge bench com
try ct3d-edge infer --include
try ct3d-edge infer scans --format ""
"""
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/bash", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o default -F _ct3d_edge_completion ct3d-edge",
        "infer inspect",
        "compare",
        "--include-phi",
        "table jsonl csv",
    ]
