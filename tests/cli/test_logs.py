"""What commands say besides their results: how much of it, where, and in which form."""

import json
import re
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from ct3d_edge.cli.logs import reset_logging
from ct3d_edge.cli.terminal import PROGRESS_INTERVAL_S, ProgressBars, ProgressLines, log

from .conftest import Run

TEXT_LINE = re.compile(r"^[-\d]{10}T[:\d]{8}\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) +ct3d_edge\.?\w*: .+")


@pytest.fixture
def command(make_scan: MakeScan, make_model: MakeModel) -> tuple[object, ...]:
    """An answered scan and one that cannot be read."""
    (make_scan("a.nii").parent / "b.nii").touch()
    return ("infer", make_scan("a.nii").parent, "-m", make_model(), "-p", "cpu")


def test_quiet_leaves_the_results_alone(run: Run, command: tuple[object, ...]) -> None:
    loud, quiet = run(*command, "--format", "csv"), run(*command, "--format", "csv", "--quiet")
    assert loud.err
    assert quiet.err == ""
    assert [row.split(",")[0] for row in quiet.out.splitlines()] == [row.split(",")[0] for row in loud.out.splitlines()]
    assert (quiet.code, loud.code) == (1, 1)


def test_quiet_still_tells_errors(run: Run, tmp_path: Path) -> None:
    assert run("infer", tmp_path / "none", "-q").err.startswith("error: There is no file or folder")


def test_verbose_tells_each_scan_as_it_is_done(run: Run, command: tuple[object, ...]) -> None:
    assert not re.search(r"a\.nii: ok \(\d+ ms\)", run(*command).err)
    assert re.search(r"a\.nii: ok \(\d+ ms\)", run(*command, "-v").err)


def test_quiet_and_verbose_exclude_each_other(run: Run, command: tuple[object, ...]) -> None:
    assert run(*command, "-q", "-v").code == 2


def test_a_log_file_has_time_level_and_logger_whatever_the_terminal_shows(
    run: Run, command: tuple[object, ...], tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    assert run(*command, "--quiet", "--log-file", log).code == 1
    lines = log.read_text().splitlines()
    assert all(TEXT_LINE.match(line) for line in lines), lines
    assert any("DEBUG" in line and "a.nii" in line for line in lines)
    run("infer", tmp_path / "none", "--log-file", log)
    grown = log.read_text().splitlines()
    assert grown[: len(lines)] == lines, "a second run adds to it"
    assert "ERROR" in grown[-1]


def test_json_lines_are_for_programs(run: Run, command: tuple[object, ...], tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    run(*command, "--log-file", log, "--log-format", "json")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(set(entry) == {"time", "level", "logger", "message"} for entry in entries)
    assert {entry["level"] for entry in entries} == {"info", "debug"}
    assert any(entry["message"].startswith("provider cpu") for entry in entries)


def test_a_bug_is_in_the_log_with_its_traceback(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.log"
    monkeypatch.setattr("ct3d_edge.scan.discovery.discover_scans", lambda *_: 1 / 0)
    arguments = ["check", str(tmp_path), "--log-file", str(log), "--log-format", "json"]
    monkeypatch.setattr("sys.argv", ["ct3d-edge", *arguments])
    from ct3d_edge.cli.app import main

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 70
    assert capsys.readouterr().err.count("ZeroDivisionError") == 1
    entry = json.loads(log.read_text().splitlines()[-1])
    assert entry["level"] == "critical"
    assert "ZeroDivisionError" in entry["traceback"]


@pytest.mark.parametrize(("place", "code"), [("missing/run.log", 2), ("", 2)])
def test_a_log_that_cannot_be_written_is_a_sentence(
    run: Run, command: tuple[object, ...], tmp_path: Path, place: str, code: int
) -> None:
    outcome = run(*command, "--log-file", tmp_path / place)
    assert outcome.code == code
    assert outcome.err.startswith(f"error: Cannot write {tmp_path / place}: ")


@pytest.mark.parametrize("words", [("check",), ("bench",), ("bench", "compare"), ("data", "synth"), ("train",)])
def test_every_command_has_them(run: Run, words: tuple[str, ...]) -> None:
    said = run(*words, "--help").out
    for option in ("--quiet", "--verbose", "--log-file", "--log-format"):
        assert option in said


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    reset_logging()
    clock = Clock()
    lines = ProgressLines(100, "Scans", clock)
    for _ in range(100):
        clock.now += PROGRESS_INTERVAL_S / 20
        lines.advance()
    said = capsys.readouterr().err.splitlines()
    assert said == [f"Scans: {done} of 100, 0.67 a second, {left} left" for done, left in
                    [(20, "0:02:00"), (40, "0:01:30"), (60, "0:01:00"), (80, "0:00:30")]]  # fmt: skip


def test_progress_without_a_known_end_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    reset_logging()
    clock = Clock()
    lines = ProgressLines(None, "Warm-up runs", clock)
    for _ in range(25):
        clock.now += PROGRESS_INTERVAL_S / 20
        lines.advance()
    assert capsys.readouterr().err == "Warm-up runs: 20, 0.67 a second\n"


def test_a_step_that_begins_again_counts_from_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reset_logging()
    monkeypatch.setattr("ct3d_edge.cli.terminal.PROGRESS_INTERVAL_S", 0.0)
    with ProgressBars() as bars:
        for done in (1, 2, 1, 2, 3):
            bars(done, 3, "Requests")
    counts = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert counts == ["Requests: 1 of 3", "Requests: 2 of 3"] * 2


def test_what_a_terminal_cannot_show_is_escaped(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("doctor", "--help")
    log("red \x1b[31m")
    assert capsys.readouterr().err == "red \\x1b[31m\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which stands for a full disk")
def test_a_log_on_a_full_disk_is_given_up_with_one_warning(run: Run, command: tuple[object, ...]) -> None:
    outcome = run(*command, "--log-file", "/dev/full", "--verbose")
    assert outcome.code == 1, "as without a log"
    assert outcome.err.count("Cannot write /dev/full: No space left on device.") == 1
    assert "Traceback" not in outcome.err
