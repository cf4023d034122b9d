"""What the world does to a night's run: each time a sentence, the right exit code, and no record lost or doubled."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import MakeModel, MakeScan

from .conftest import Run

ROOT = Path(__file__).parents[2]
MAIN = "from ct3d_edge.cli.app import main; main()"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are faults of POSIX systems")


AS_ANYBODY = """
import ctypes
libc, head, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(head, sets)
for kind in (0, 1):
    sets[kind] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: capabilities(7)
libc.capset(head, sets)
"""


def in_a_process(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which does something to itself first."""
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{MAIN}", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def codes(lines: str) -> dict[str, str | None]:
    """File name to failure code."""
    records: list[dict[str, Any]] = [json.loads(line) for line in lines.splitlines()]
    found = {os.path.basename(r["scan"]): r["error"]["code"] if r["error"] else None for r in records}  # noqa: PTH119
    assert len(found) == len(records), "no record twice"
    return found


def test_a_folder_that_vanishes_leaves_records_of_what_is_gone(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes after the scans were listed, which is when the session is opened."""
    scans = tmp_path / "scans"
    for number in range(5):
        make_scan(f"{number}.nii", folder=scans)
    from ct3d_edge.inference.model import Model

    opened = Model.make_schedule

    def remove(model: Model, *arguments: Any, **options: Any) -> Any:
        shutil.rmtree(scans)
        return opened(model, *arguments, **options)

    monkeypatch.setattr(Model, "make_schedule", remove)
    outcome = run("infer", scans, "--model", make_model(), "-p", "cpu", "--format", "jsonl")
    assert outcome.code == 1
    assert codes(outcome.out) == {f"{number}.nii": "not_found" for number in range(5)}


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="takes root's privilege to read anything away")


@needs_linux
def test_what_may_not_be_read(make_scan: MakeScan, make_model: MakeModel, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    make_scan("a.nii", folder=scans)
    make_scan("secret.nii", folder=scans).chmod(0)
    make_scan("inside.nii", folder=scans / "closed")
    (scans / "linked.nii").symlink_to("closed/inside.nii")
    (scans / "closed").chmod(0)
    command = ("infer", scans, "-m", make_model(), "-p", "cpu")
    outcome = in_a_process(*command, "-f", "jsonl", before=AS_ANYBODY)
    assert outcome.returncode == 1, outcome.stderr
    unreadable = dict.fromkeys(("secret.nii", "closed", "linked.nii"), "unreadable")
    assert codes(outcome.stdout) == {"a.nii": None, **unreadable}
    assert "closed cannot be searched: Permission denied" in outcome.stdout
    named = in_a_process("infer", scans / "a.nii", scans / "secret.nii", *command[2:], "-f", "jsonl", before=AS_ANYBODY)
    assert codes(named.stdout) == {"a.nii": None, "secret.nii": "unreadable"}
    scans.chmod(0o500)
    outcome = in_a_process(*command, "-o", scans / "r.jsonl", before=AS_ANYBODY)
    assert outcome.returncode == 73
    assert outcome.stderr.startswith(f"error: Cannot write {scans / 'r.jsonl'}: Permission denied")


@needs_linux
def test_a_folder_that_is_named_and_may_not_be_searched_is_wrong_usage(make_scan: MakeScan, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    outcome = in_a_process("check", make_scan(), tmp_path / "closed", before=AS_ANYBODY)
    assert outcome.returncode == 2
    assert "closed cannot be searched: Permission denied" in outcome.stderr


@needs_linux
def test_a_folder_that_may_not_be_searched_is_told_by_every_command(
    make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    for name in ("normal", "abnormal"):
        for number in range(2):
            make_scan(f"{name}{number}.nii", folder=tmp_path / "scans" / name)
    (tmp_path / "scans" / "normal" / "closed").mkdir(mode=0)
    scans, model = tmp_path / "scans", make_model()
    listed = "normal/closed: closed cannot be searched: Permission denied."
    for command, code, told in (
        (("check", scans), 1, "closed cannot be searched"),
        (("preprocess", scans, "--out", tmp_path / "npy"), 1, "normal/closed: unreadable: closed cannot be searched"),
        (("evaluate", scans, "-m", model, "-p", "cpu"), 2, listed),
        (("data", "split", scans, "--out", tmp_path / "split.json"), 2, listed),
    ):
        outcome = in_a_process(*command, before=AS_ANYBODY)
        assert outcome.returncode == code, outcome.stderr
        assert told in " ".join((outcome.stdout + outcome.stderr).split())


@pytest.fixture
def odd_things(make_scan: MakeScan, tmp_path: Path) -> Iterator[Path]:
    """A folder with two scans and whatever else may have the name of one."""
    scans = tmp_path / "scans"
    make_scan("a.nii", folder=scans)
    make_scan("b.nii.gz", folder=scans)
    os.mkfifo(scans / "pipe.nii.gz")
    os.mkfifo(scans / "pipe.dcm")
    os.mkfifo(scans / "pipe")  # the content of a file of any name may be DICOM
    (scans / "device.nii").symlink_to("/dev/tty")
    (scans / "zero.dcm").symlink_to("/dev/zero")
    (scans / "folder.nii.gz").mkdir()
    (scans / "round.dcm").symlink_to("round.dcm")
    with socket.socket(socket.AF_UNIX) as there:
        before = Path.cwd()
        os.chdir(scans)  # the address of a socket is short
        there.bind("socket.nii")
        os.chdir(before)
        yield scans


ODD = dict.fromkeys(("pipe.nii.gz", "pipe.dcm", "device.nii", "zero.dcm", "socket.nii"), "unreadable")


def test_what_only_has_the_name_of_a_scan_is_told_and_nothing_waits_for_it(
    run: Run, make_model: MakeModel, odd_things: Path, tmp_path: Path
) -> None:
    command = ("-m", make_model(), "-p", "cpu", "-f", "jsonl")
    outcome = run("infer", odd_things, *command)
    assert outcome.code == 1
    assert codes(outcome.out) == {"a.nii": None, "b.nii.gz": None, **ODD}
    assert "pipe.nii.gz is a named pipe, not a file" in outcome.out
    assert codes(run("infer", *(odd_things / name for name in ODD), *command).out) == ODD
    quality_reports = json.loads(run("check", odd_things, "--json").out)
    assert {os.path.basename(each["scan"]) for each in quality_reports if each["error"]} == set(ODD)  # noqa: PTH119
    assert run("preprocess", odd_things, "--out", tmp_path / "npy").err.count("unreadable") == len(ODD)


def test_folders_in_folders_as_deep_as_a_path_can_name(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    """Deeper than Python's own recursion goes; the last of them has a path that is too long to be opened."""
    make_scan("a.nii", folder=tmp_path / "scans")
    here = os.open(tmp_path / "scans", os.O_RDONLY)
    for _ in range(2100):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        outcome = run("check", tmp_path / "scans", "--json")
    finally:
        subprocess.run(["rm", "-r", tmp_path / "scans" / "d"], check=True)  # noqa: S607
    assert outcome.code == 1
    good, bad = json.loads(outcome.out)
    assert good["error"] is None
    assert bad["error"]["code"] == "unreadable"
    assert "File name too long" in bad["error"]["message"]


def test_a_full_disk_ends_the_run_and_costs_no_record(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    for number in range(20):
        make_scan(f"{number:02}.nii", folder=tmp_path / "scans")
    out, journal = tmp_path / "r.jsonl", tmp_path / "r.jsonl.journal"
    command = ("infer", tmp_path / "scans", "-m", make_model(), "-p", "cpu", "-o", out, "-f", "jsonl")
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    outcome = in_a_process(*command, before=small)
    assert outcome.returncode == 74
    assert outcome.stderr.endswith(f"error: Cannot write {journal}: File too large.\n")
    kept = journal.read_text()
    assert 0 < len(kept.splitlines()) < 20
    assert kept.endswith("}\n")
    assert "not reached" in outcome.stderr
    records = len(kept.splitlines())
    assert f"{journal} holds {records} records; go on with --resume" in outcome.stderr
    resumed = run(*command, "--resume")
    assert resumed.code == 0
    assert f"\n{records} records kept from an earlier run\n" in resumed.err
    assert codes(out.read_text()) == {f"{number:02}.nii": None for number in range(20)}
    assert out.read_text().startswith(kept)
    assert not journal.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_does_not_cost_the_file(
    make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "r.jsonl"
    command = [
        sys.executable,
        "-c",
        MAIN,
        "infer",
        str(make_scan()),
        "-m",
        str(make_model()),
        "-p",
        "cpu",
        "-o",
        str(out),
    ]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 74
    assert "Cannot write to standard output: No space left on device" in done.stderr
    assert codes(out.read_text()) == {"scan.nii.gz": None}


def test_names_that_are_hard_to_write(run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path) -> None:
    names = ["a\nb.nii", "tab\t.nii", " .nii", "肺.nii", "\x1b[31mred.nii", os.fsdecode(b"no\xffutf8.nii"), "-o.nii"]
    scans, out = tmp_path / os.fsdecode(b"f\xfe"), tmp_path / "r.jsonl"
    for name in names:
        make_scan(name, folder=scans)
    command = ("infer", scans, "-m", make_model(), "-p", "cpu", "-o", out)
    outcome = run(*command)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    assert codes(out.read_text()) == dict.fromkeys(names)
    out.rename(tmp_path / "r.jsonl.journal")
    before = (tmp_path / "r.jsonl.journal").read_bytes()
    assert run(*command, "--resume").code == 0
    assert out.read_bytes() == before, "every name is recognised again"
    assert run(*command[:-2], "--out", tmp_path / "r.csv", "--format", "csv").code == 0


def test_links_that_lead_nowhere_or_round_and_round(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    make_scan("a.nii", folder=scans)
    (scans / "linked.nii").symlink_to("a.nii")
    (scans / "round").symlink_to(".", target_is_directory=True)
    (scans / "self.nii").symlink_to("self.nii")
    (scans / "nowhere.nii").symlink_to("gone.nii")
    outcome = run("infer", scans, "-m", make_model(), "-p", "cpu", "-f", "jsonl")
    assert outcome.code == 1
    expected = {"a.nii": None, "linked.nii": None, "nowhere.nii": "not_found", "self.nii": "unreadable"}
    assert codes(outcome.out) == expected
    alone = run("infer", scans / "self.nii", "-m", make_model(), "-p", "cpu", "-f", "jsonl")
    assert codes(alone.out) == {"self.nii": "unreadable"}


@pytest.mark.slow
def test_ten_thousand_empty_files_and_one_scan(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "r.jsonl"
    make_scan("m.nii", folder=scans)
    for number in range(10_000):
        (scans / f"{number:05}.nii").touch()
    outcome = run("infer", scans, "-m", make_model(), "-p", "cpu", "-o", out, "-f", "jsonl")
    assert outcome.code == 1
    found = codes(out.read_text())
    assert len(found) == 10_001
    assert {name for name, code in found.items() if code is None} == {"m.nii"}
    assert set(found.values()) == {None, "empty"}
    assert "10001 scans (1 ok, 10000 error)" in outcome.err


@pytest.mark.parametrize("option", ["--workers", "--batch-size"])
def test_more_than_there_are_scans(run: Run, make_scan: MakeScan, make_model: MakeModel, option: str) -> None:
    scans = [make_scan(f"{number}.nii") for number in range(3)]
    outcome = run("infer", *scans, "-m", make_model(), "-p", "cpu", "-f", "jsonl", option, 50)
    assert outcome.code == 0
    assert codes(outcome.out) == {scan.name: None for scan in scans}


@pytest.mark.parametrize("command", ["infer", "bench", "verify"])
def test_two_providers_at_once_are_refused(run: Run, command: str) -> None:
    outcome = run(command, "-p", "cpu", "--provider", "cuda")
    assert outcome.code == 2
    assert "--provider was given twice" in outcome.err


def test_an_empty_path_is_not_this_folder(run: Run) -> None:
    outcome = run("infer", "", "--provider", "cpu")
    assert outcome.code == 2
    assert "An argument is empty" in outcome.err
