"""Options in a TOML file: the command line goes before it, and each error has its line."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from builders import MakeModel

from ct3d_edge.cli.app import app
from ct3d_edge.cli.config_file import configurable_commands, find_lines, read_config, settable_parameters
from ct3d_edge.errors import UsageError

from .conftest import Run

COMMANDS = configurable_commands(typer.main.get_command(app))

ERRONEOUS = """\
model = "x.onnx"
[shared]
provder = "cpu"
workers = 0
[wach]
[watch]
poll_interval = 2
out = 5
include-phi = "no"
provider-option = "a=b"
provider = "npu"
workers = "2"
max-memory = [
  1,
]
"""

ERRORS = [
    "1: model stands in no table; write it below [shared] or [",
    "3: provder in [shared] is an option that no command has. Did you mean provider?",
    "4: workers in [shared]: 0 is too small; the smallest value is 1.",
    "5: There is no table [wach]. Did you mean watch?",
    "7: poll_interval in [watch] is an option that `watch` does not have. Did you mean poll-interval?",
    "8: out in [watch]: 5 is not the text of a path.",
    "9: include-phi in [watch]: takes true or false, found text 'no'.",
    "10: provider-option in [watch]: takes a list: ['a=b'].",
    "11: provider in [watch]: 'npu' is not one of 'auto', ",
    "12: workers in [watch]: takes a whole number, found text '2'.",
    "13: max-memory in [watch]: takes text, found a list [1].",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_every_error_is_named_with_its_line(run: Run, file: Path) -> None:
    file.write_text(ERRONEOUS)
    for arguments in (["config", "check", file], ["watch", "--config", file], ["config", "show", file]):
        outcome = run(*arguments)
        assert outcome.code == 2
        lines = outcome.err.removeprefix("error: ").splitlines()
        assert len(lines) == len(ERRORS)
        for line, expected in zip(lines, ERRORS, strict=True):
            assert line.startswith(f"{file}:{expected}")


def test_every_command_that_runs_until_it_is_stopped_takes_a_file(run: Run, file: Path) -> None:
    assert set(COMMANDS) == {"watch", "listen", "serve"}
    file.write_text(
        '[shared]\nport = 11113\n[listen]\npeer = "CT@10.0.0.9"\nspool = "spool"\n[serve]\nport = 70000\nhosts = ""\n'
    )
    for name in ("listen", "serve"):
        lines = run(name, "--config", file).err.removeprefix("error: ").splitlines()
        assert lines[:2] == [
            f"{file}:4: peer in [listen]: takes a list: ['CT@10.0.0.9'].",
            f"{file}:7: port in [serve]: 70000 is too large; the largest value is 65535.",
        ]
        assert lines[2].startswith(
            f"{file}:8: hosts in [serve] is an option that `serve` does not have. Did you mean host?"
        )
    file.write_text('[shared]\nport = 11113\n[listen]\npeer = ["CT@10.0.0.9"]\nspool = "spool"\n')
    values = COMMANDS["listen"].make_context("listen", ["--config", str(file), "--peer", "PACS@10.0.0.5"]).params
    assert (values["port"], values["peer"], values["spool"]) == (11113, ["PACS@10.0.0.5"], file.parent / "spool")
    file.write_text("[shared]\nport = 11113\n")
    assert COMMANDS["serve"].make_context("serve", ["--config", str(file)]).params["port"] == 11113


def test_the_command_line_goes_before_the_table_and_that_before_shared(file: Path) -> None:
    file.write_text(
        '[shared]\nprovider = "cpu"\nworkers = 2\n[watch]\nworkers = 3\nincoming = "in"\nout = "/o.jsonl"\n'
    )
    watch = COMMANDS["watch"]
    values = watch.make_context("watch", ["--config", str(file)]).params
    assert (values["provider"], values["workers"], values["folder"]) == ("cpu", 3, file.parent / "in")
    assert values["out"] == Path("/o.jsonl")
    assert "config" not in values
    given = watch.make_context("watch", ["--workers", "4", "--config", str(file), "here"]).params
    assert (given["workers"], given["folder"]) == (4, Path("here"))


def test_flags_and_lists_of_the_file_are_taken(file: Path) -> None:
    file.write_text(
        '[watch]\ninclude-phi = true\ndowngrade-check = ["spacing", "not_ct"]\npoll-interval = 1\n'
        'incoming="i"\nout="o"\n'
    )
    values = COMMANDS["watch"].make_context("watch", ["--config", str(file)]).params
    assert (values["include_phi"], values["allow"], values["every"]) == (True, ["spacing", "not_ct"], 1.0)


def test_watch_takes_its_options_from_the_file(run: Run, file: Path, make_model: MakeModel) -> None:
    file.write_text(
        f'[watch]\nincoming = "none"\nout = "results.jsonl"\nmodel = "{make_model()}"\nlog-file = "w.log"\n'
    )
    outcome = run("watch", "--config", file)
    assert (outcome.code, outcome.err) == (2, f"error: There is no folder {file.parent / 'none'}.\n")
    assert (file.parent / "w.log").exists()
    assert "'--out'" in run("watch", "x").err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[watch]\nout = 'a'\nout = 'b'\n", "is not valid TOML: Cannot overwrite a value (at line 3, column 10)."),
        (b"[watch]\nout = \xff\n", "is not UTF-8 text (byte 14)."),
        (b"# " + b"x" * (1 << 16), "has more than 65536 bytes;"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(run: Run, file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    outcome = run("config", "check", file)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_missing_file_is_named(run: Run, file: Path) -> None:
    assert run("watch", "--config", file).err == f"error: Cannot read {file}: No such file or directory.\n"
    assert run("config", "check", file.parent).err == f"error: Cannot read {file.parent}: Is a directory.\n"


def test_windows_line_ends_and_a_byte_order_mark_are_read(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf[watch]\r\nprovider = "cpu"\r\n')
    assert read_config(file, COMMANDS).default_map("watch") == {"provider": "cpu"}


def test_lines_are_those_at_which_statements_begin() -> None:
    text = '# a\n\na.b = 1\n[t]\nx = """\n[u]\ny = 1\n"""\n# c\n  "z w" = [\n 1,\n]\n[v]\n[w.k]\n'
    lines = find_lines(text)
    assert lines == {
        ("a",): 3, ("a", "b"): 3, ("t",): 4, ("t", "x"): 5, ("t", "z w"): 10, ("v",): 13, ("w",): 14, ("w", "k"): 14,
    }  # fmt: skip


def test_shown_options_are_a_file_without_errors(run: Run, file: Path) -> None:
    file.write_text(run("config", "show").out)
    assert run("config", "check", file).out == f"{file}: no errors, no settings\n"
    values = {name: set(settable_parameters(command)) for name, command in COMMANDS.items()}
    assert all(f"# {key} =" in run("config", "show", "--command", name).out for name in values for key in values[name])


def test_shown_settings_have_their_lines_and_can_be_read_again(run: Run, file: Path) -> None:
    file.write_text('[shared]\nprovider = "cpu"\n[watch]\nprovider-option = ["a", "\\"b"]\nout = "o.jsonl"\n')
    shown = run("config", "show", file, "--command", "watch").out
    assert 'provider = "cpu"  # node.toml:2\n' in shown
    again = tomllib.loads(shown)["watch"]
    assert again == {"provider": "cpu", "provider-option": ["a", '"b'], "out": str(file.parent / "o.jsonl")}
    assert "watch (3)" in run("config", "check", file).out


def test_no_option_takes_a_secret_itself() -> None:
    secret = ("token", "password", "secret", "passphrase")
    keys = [key for command in COMMANDS.values() for key in settable_parameters(command)]
    assert [key for key in keys if any(word in key for word in secret) and not key.endswith("-file")] == []


def test_a_file_of_one_command_alone_is_read(file: Path) -> None:
    file.write_text("[other]\n")
    commands: dict[str, Any] = {"watch": COMMANDS["watch"]}
    with pytest.raises(UsageError, match=r"node.toml:1: There is no table \[other\]\. There are: shared, watch\."):
        read_config(file, commands)


TEXT_ERRORS = {
    "max-upload": ("serve", '"abc"', "A size is a number with a unit, e.g. 500MB or 2GB; found 'abc'."),
    "min-free": ("serve", '"0MB"', "A size is a number with a unit"),
    "peer": ("listen", '["CT1"]', "A DICOM node is named AET@HOST:PORT"),
    "send-to": ("listen", '["PACS@h"]', "A destination needs a port: --send-to PACS@h:PORT."),
    "ae-title": ("listen", '"SEVENTEEN-LETTERS"', "An AE title has 1 to 16 printable ASCII characters"),
    "max-instance-size": ("listen", '"1 XB"', "A size is a number with a unit"),
    "max-series-size": ("listen", '"-1GB"', "A size is a number with a unit"),
    "max-results-size": ("listen", '"much"', "A size is a number with a unit"),
    "max-memory": ("watch", '"lots"', "A size is a number with a unit"),
    "downgrade-check": ("watch", '["nope"]', "There is no check nope."),
}


def test_a_network_that_is_none_and_a_truth_value_are_named(run: Run, file: Path) -> None:
    file.write_text('[listen]\npeer = ["CT@10.0.0.0/99"]\n[serve]\nmax-upload = true\n')
    outcome = run("config", "check", file)
    assert outcome.code == 2
    assert f"{file}:2: peer in [listen]: A network is written ADDRESS/BITS" in outcome.err
    assert f"{file}:4: max-upload in [serve]: takes text, found true." in outcome.err


@pytest.mark.parametrize("key", TEXT_ERRORS)
def test_text_that_stands_for_something_else_is_checked_with_its_line(run: Run, file: Path, key: str) -> None:
    table, value, message = TEXT_ERRORS[key]
    file.write_text(f"[{table}]\n\n{key} = {value}\n")
    outcome = run("config", "check", file)
    assert outcome.code == 2
    assert outcome.err.removeprefix("error: ").startswith(f"{file}:3: {key} in [{table}]: {message}")


def test_text_of_every_option_is_checked_but_for_names() -> None:
    """Host names and options of providers are known where they are used; the other texts have a form."""
    used_as_it_is = {"host", "model-name", "provider-option"}
    for name, command in COMMANDS.items():
        texts = {
            key
            for key, parameter in settable_parameters(command).items()
            if parameter.type_descriptor.annotation in (str, list[str]) and parameter.callback is None
        }
        assert texts <= used_as_it_is, name
