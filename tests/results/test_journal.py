"""What is on the disk of a run that did not end, and what a later run makes of it."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from records import ANSWERED, FAILED

from ct3d_edge.errors import OutputError, UsageError
from ct3d_edge.results.formats import parse_record, to_jsonl
from ct3d_edge.results.journal import ResultsJournal, read_journal
from ct3d_edge.results.record import TRANSIENT_FAILURES, ResultRecord, ScanFailure
from ct3d_edge.results.results_file import open_results

LABELS = ("normal", "abnormal")


def written(path: Path, records: list[ResultRecord]) -> Path:
    """A journal that holds these."""
    with ResultsJournal(path) as journal:
        for record in records:
            journal.append(record)
    return path


def test_a_line_becomes_the_record_it_was_written_from(several: list[ResultRecord]) -> None:
    assert [parse_record(to_jsonl([record]).encode()) for record in several] == several


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 3},
        {"schema": None},
        {"status": 7, "extra": 1},
        {"flags": [{"code": "a"}]},
        {"flags": 3},
        {"provider": None},
        {"timing_ms": [1]},
        {"timing_ms": {"read": "soon", "preprocess": None, "infer": None, "total": 0}},
        {"probability": None},
        {"error": {"code": "a"}},
    ],
)
def test_what_is_no_record_is_not_taken_for_one(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="record"):
        parse_record(json.dumps({**ANSWERED.to_dict(), **change}).encode())


@pytest.mark.parametrize("line", [b"", b"3\n", b"[]\n", b"{}\n", b"\x00\x00\n", b"\xff\n", b"[" * 100_000])
def test_what_is_no_json_object_is_not_taken_for_a_record(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_record(line)


def test_a_missing_field_is_noticed() -> None:
    for name in ANSWERED.to_dict():
        less = {key: value for key, value in ANSWERED.to_dict().items() if key != name}
        with pytest.raises(ValueError, match="record"):
            parse_record(json.dumps(less).encode())


def test_records_are_on_the_disk_as_soon_as_they_are_appended(tmp_path: Path, several: list[ResultRecord]) -> None:
    with ResultsJournal(tmp_path / "j") as journal:
        for number, record in enumerate(several, 1):
            journal.append(record)
            assert (tmp_path / "j").read_text() == to_jsonl(several[:number])
            assert journal.records == number


def test_killed_after_any_byte_nothing_but_the_torn_record_is_missing(
    tmp_path: Path, several: list[ResultRecord]
) -> None:
    whole = to_jsonl(several).encode()
    path = tmp_path / "j"
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    near_ends = [end + step for end in ends for step in (-2, -1, 0, 1) if end + step <= len(whole)]
    for size in {0, *range(0, len(whole), 61), *near_ends}:
        path.write_bytes(whole[:size])
        left = whole[:size].count(b"\n")
        with ResultsJournal(path) as journal:
            assert journal.records == left
            assert list(read_journal(path)) == several[:left]
            for record in several[left:]:
                journal.append(record)
        assert path.read_bytes() == whole


def test_a_torn_line_that_the_system_filled_with_zeros_is_cut_off(tmp_path: Path, several: list[ResultRecord]) -> None:
    path = written(tmp_path / "j", several)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(4000))
    with ResultsJournal(path) as journal:
        assert journal.records == len(several)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"precious\n", b"\n", b'{"a": 1}\n', b"\x00\n"])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.jsonl.journal"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"Line 1 of .* is not a result record"):
        ResultsJournal(path)
    for resume in (True, False):
        with pytest.raises(UsageError, match=r"Line 1 of .*Nothing was changed"):
            open_results(tmp_path / "results.jsonl", resume=resume).__enter__()
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, several: list[ResultRecord]) -> None:
    path = written(tmp_path / "j", several)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"rubbish\n", *lines[2:]]))
    with pytest.raises(UsageError, match="Line 2 of"):
        ResultsJournal(path)


def test_a_place_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot write .*: No such file or directory"):
        ResultsJournal(tmp_path / "nowhere" / "j")
    with pytest.raises(UsageError, match="Is a directory"):
        ResultsJournal(tmp_path)


FULL = """
import resource, sys
from pathlib import Path
from ct3d_edge.errors import DiskError
from ct3d_edge.results.formats import parse_record
from ct3d_edge.results.journal import ResultsJournal

line = Path(sys.argv[1]).read_bytes()
limit = int(len(line) * 3.5)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
with ResultsJournal(Path(sys.argv[2])) as journal:
    try:
        for _ in range(5):
            journal.append(parse_record(line))
    except DiskError as error:
        print(journal.records, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    (tmp_path / "line").write_text(to_jsonl([ANSWERED]))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "line"), str(tmp_path / "j")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("3 Cannot write ")
    assert "File too large" in done.stdout
    assert (tmp_path / "j").read_text() == to_jsonl([ANSWERED] * 3)


def test_a_finished_run_leaves_one_file(tmp_path: Path, several: list[ResultRecord]) -> None:
    out = tmp_path / "results.jsonl"
    with open_results(out) as results:
        for record in several:
            results.add(record)
        assert not out.exists(), "the name stands for a complete file"
        results.finish(several, LABELS)
    assert out.read_text() == to_jsonl(several)
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_ended_before_its_first_record_leaves_nothing(tmp_path: Path) -> None:
    with open_results(tmp_path / "results.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv"])
def test_an_unfinished_run_is_gone_on_with_or_removed_but_never_overwritten(
    tmp_path: Path, several: list[ResultRecord], name: str
) -> None:
    out = tmp_path / name
    with open_results(out) as results:
        for record in several:
            results.add(record)
    before = results.journal_path.read_bytes()
    with pytest.raises(
        UsageError, match=r"ended early; .*\.journal holds its 4 records\. Go on with it by `resume=True`"
    ):
        open_results(out).__enter__()
    assert results.journal_path.read_bytes() == before
    with open_results(out, resume=True) as resumed:
        assert resumed.known == {record.scan: record for record in several if record.scan_sha256}
        for record in [*resumed.known.values(), several[-1]]:
            resumed.add(record)
        assert results.journal_path.read_bytes() == before + to_jsonl(several[-1:]).encode(), (
            "known ones are not repeated"
        )
        resumed.finish(several, LABELS)
    assert list(tmp_path.iterdir()) == [out]


def test_a_finished_file_can_be_gone_on_with(tmp_path: Path, several: list[ResultRecord]) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text(to_jsonl(several))
    with open_results(out, resume=True) as results:
        assert list(results.known.values()) == several[:3]
    out.write_text("something else\n")
    with pytest.raises(UsageError, match="Line 1 of"):
        open_results(out, resume=True).__enter__()
    with open_results(out) as results:
        results.finish(several, LABELS)
    assert out.read_text() == to_jsonl(several), "replaced only by a run that was not asked to go on"


def test_the_last_record_of_a_scan_counts(tmp_path: Path) -> None:
    again = replace(ANSWERED, scan_sha256="e" * 64)
    written(tmp_path / "results.jsonl.journal", [ANSWERED, FAILED, again])
    with open_results(tmp_path / "results.jsonl", resume=True) as results:
        assert results.known == {again.scan: again}


@pytest.mark.parametrize("code", sorted(TRANSIENT_FAILURES))
def test_a_failure_that_is_not_in_the_content_is_tried_again(tmp_path: Path, code: str) -> None:
    chance = replace(FAILED, failure=ScanFailure(code, "It happens."))
    assert chance.key is None
    written(tmp_path / "results.jsonl.journal", [ANSWERED, chance])
    with open_results(tmp_path / "results.jsonl", resume=True) as results:
        assert results.known == {}


def test_a_second_run_is_refused_while_the_first_goes_on(tmp_path: Path) -> None:
    with open_results(tmp_path / "results.jsonl") as first:
        first.add(ANSWERED)
        with pytest.raises(UsageError, match=r"Another run \(process \d+\) is writing"):
            open_results(tmp_path / "results.jsonl", resume=True).__enter__()
    assert first.journal_path.read_text() == to_jsonl([ANSWERED])


def test_two_names_of_one_file_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    with open_results(tmp_path / "link.jsonl") as first, pytest.raises(UsageError, match="Another run"):
        open_results(tmp_path / "real.jsonl").__enter__()
    assert first.journal_path == tmp_path / "real.jsonl.journal"


def test_rotation_sets_the_records_so_far_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, former = tmp_path / "r.jsonl", tmp_path / "r.1.jsonl"
    former.write_bytes(b"older\n")
    with ResultsJournal(path) as journal:
        journal.append(ANSWERED)
        assert journal.size == path.stat().st_size > 0
        journal.rotate(former)
        assert (journal.size, journal.records, path.stat().st_size) == (0, 0, 0)
        journal.append(FAILED)
        assert list(read_journal(former)) == [ANSWERED]
        assert list(read_journal(path)) == [FAILED]
        with monkeypatch.context() as full:
            full.setattr("ct3d_edge.results.journal._open_to_append", fail_to_open)
            with pytest.raises(OutputError):
                journal.rotate(former)
        journal.append(ANSWERED)  # nothing is lost meanwhile
        journal.rotate(former)
        assert list(read_journal(former)) == [FAILED, ANSWERED]
        assert list(read_journal(path)) == []


def fail_to_open(path: Path) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))
