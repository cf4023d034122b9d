"""How many scans at once, as it is typed."""

import json
import threading
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from ct3d_edge.cli.folder_options import parse_size
from ct3d_edge.errors import UsageError

from .conftest import Run


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500", 500),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 gib", 3 << 29),
        (" 64 KiB ", 64 << 10),
        (None, None),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str | None, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1e9", "2TBB", "0", "0GB", "GB", "1,5GB", "inf"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="500MB or 2GB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "'--workers'"),
        (["--batch-size", "0"], "'--batch-size'"),
        (["--scan-timeout", "0"], "'--scan-timeout'"),
        (["--memory-budget", "lots"], "found 'lots'"),
        (["--batch-size", "1000", "--memory-budget", "1MB"], "Use --batch-size"),
    ],
)
def test_wrong_usage(run: Run, make_scan: MakeScan, make_model: MakeModel, options: list[str], message: str) -> None:
    outcome = run("infer", make_scan(), "--model", make_model(), "-p", "cpu", *options)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())
    assert outcome.out == ""


@pytest.mark.parametrize("options", [["--workers", "3"], ["--batch-size", "4"], ["--memory-budget", "1MB"]])
def test_the_answers_do_not_depend_on_how(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path, options: list[str]
) -> None:
    for number in range(7):
        make_scan(f"{number}.nii.gz", folder=tmp_path / "scans")
    command = ("infer", tmp_path / "scans", "--model", make_model(), "-p", "cpu", "--format", "jsonl")
    plain, other = run(*command), run(*command, *options)
    assert plain.code == other.code == 0
    answers = [[json.loads(line)["probability"] for line in outcome.out.splitlines()] for outcome in (plain, other)]
    assert answers[0] == answers[1]
    assert threading.active_count() == 1
