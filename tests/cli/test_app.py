import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import MakeModel

from ct3d_edge.cli.app import COMMANDS
from ct3d_edge.cli.logs import OPTION_OF_ARGUMENT, to_option_names
from ct3d_edge.extras import pip_install_command

from .conftest import Run


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    outcome = run("--help")
    assert outcome.code == 0
    assert all(f"\n  {command} " in outcome.out for command in COMMANDS)
    assert "Exit codes: 0 all well" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert "Usage: ct3d-edge" in outcome.out


def test_version_is_the_packages(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version").out == f"ct3d-edge {version('ct3d-edge')}\n"


def test_no_arguments_show_the_help(run: Run) -> None:
    assert "Commands:" in run().err


def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    assert run("guess").code == 2


def test_a_bug_shows_its_traceback() -> None:
    """Only what is the user's to mend is shortened to a sentence."""
    code = (
        "import sys; from ct3d_edge.cli import app, inspect\n"
        "from ct3d_edge.modelfile import model_file\n"
        "model_file.load_model_file = lambda path, **options: 1 / 0\n"
        "sys.argv = ['ct3d-edge', 'inspect', 'x.onnx']; app.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 70
    assert "ZeroDivisionError" in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from ct3d_edge.cli import app; sys.argv = ['ct3d-edge', '--help']; app.main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.parametrize(("command", "source"), [("train", ["scans"]), ("export", ["--model", "x.keras"])])
def test_without_keras_the_missing_extra_is_named(command: str, source: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "from ct3d_edge.cli import app\n"
        f"sys.argv = ['ct3d-edge', {command!r}, *{source!r}, '--out', {str(tmp_path / 'out.onnx')!r}]; app.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: This command needs keras")
    assert line.endswith(f"not installed here: {pip_install_command('train')}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_a_sentence() -> None:
    code = "import sys; from ct3d_edge.cli import app; sys.argv = ['ct3d-edge', '--help']; app.main()"
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-u", "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 74
    assert result.stderr == "error: Cannot write to standard output: No space left on device.\n"


def test_names_that_the_terminal_cannot_show_are_escaped(make_model: MakeModel) -> None:
    model = str(make_model("日本.onnx"))
    code = f"import sys; from ct3d_edge.cli import app; sys.argv = ['ct3d-edge', 'inspect', {model!r}]; app.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert result.returncode == 0
    assert b"\\u65e5\\u672c.onnx" in result.stdout


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("add `allow_fallback=True`.", "add --allow-fallback."),
        (
            "Use `batch_size=4` or less, or raise `max_memory`.",
            "Use --batch-size 4 or less, or raise --max-memory.",
        ),
        ('`allow=["no_orientation"]` takes it', "--downgrade-check no_orientation takes it"),
        ("Say which: `shape=(128, 128, 64)`", "Say which: --shape 128 128 64"),
        ("`precision=mixed_float16`, `precision=int8`", "--mixed-precision mixed_float16, --precision int8"),
        ("`inspect` and `threads=4` stay, and so does allow_fallback=True in a name.",) * 2,
    ],
)
def test_arguments_that_the_library_names_become_options(said: str, shown: str) -> None:
    assert to_option_names(said) == shown


def test_an_option_for_every_argument_that_is_replaced(run: Run) -> None:
    helps = " ".join(run(command, "--help").out for command in COMMANDS)
    assert [option for option in OPTION_OF_ARGUMENT.values() if option not in helps] == []
