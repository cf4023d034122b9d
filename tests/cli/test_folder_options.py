"""How many scans at once, as it is typed."""

import json
import threading
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan
from networks import KERAS

from .conftest import Run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "'--workers'"),
        (["--batch-size", "0"], "'--batch-size'"),
        (["--scan-timeout", "0"], "'--scan-timeout'"),
        (["--max-memory", "lots"], "found 'lots'"),
        (["--batch-size", "1000", "--max-memory", "1MB"], "Use --batch-size"),
    ],
)
def test_wrong_usage(run: Run, make_scan: MakeScan, make_model: MakeModel, options: list[str], message: str) -> None:
    outcome = run("infer", make_scan(), "--model", make_model(), "-p", "cpu", *options)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())
    assert outcome.out == ""


@pytest.mark.parametrize("options", [["--workers", "3"], ["--batch-size", "4"], ["--max-memory", "1MB"]])
def test_the_answers_do_not_depend_on_how(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path, options: list[str]
) -> None:
    for number in range(7):
        make_scan(f"{number}.nii.gz", folder=tmp_path / "scans")
    command = ("infer", tmp_path / "scans", "--model", make_model(), "-p", "cpu", "--format", "jsonl")
    before = threading.active_count()
    plain, other = run(*command), run(*command, *options)
    assert plain.code == other.code == 0
    answers = [[json.loads(line)["probability"] for line in outcome.out.splitlines()] for outcome in (plain, other)]
    assert answers[0] == answers[1]
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("infer", ["-p", "cpu"]),
        ("optimize", ["--out", "x.onnx", "-O", "small"]),
        ("tune", []),
        pytest.param(
            "export",
            ["--out", "x.onnx", "-O", "small"],
            marks=pytest.mark.skipif(not KERAS, reason="needs the extra 'train'"),
        ),
    ],
)
def test_every_command_reads_the_same_sizes(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path, command: str, options: list[str]
) -> None:
    """Where the size is good, tune and export get as far as what else is wrong."""
    inputs = [make_scan()] if command == "infer" else []
    source = make_model() if command != "export" else tmp_path / "absent.keras"
    options = [str(tmp_path / option) if option == "x.onnx" else option for option in options]
    wrong = ["--atol", "-1"] if command == "tune" else []
    refused = run(command, *inputs, "--model", source, *options, "--max-memory", "2 gigs")
    assert "a number with a unit, e.g. 500MB or 2GB; found '2 gigs'" in refused.err
    taken = run(command, *inputs, "--model", source, *options, *wrong, "--max-memory", "2 GiB")
    assert "number with a unit" not in taken.err
    assert "takes a size" not in taken.err
