"""``infer --shard`` and ``merge``: what one run gives, in parts."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import DOWNGRADE_ALL, MakeModel, MakeScan

from .conftest import Run


@pytest.fixture
def folder(make_scan: MakeScan, tmp_path: Path) -> Path:
    """Nine scans, two with the same content, and a broken file."""
    rng = np.random.default_rng(0)
    voxels: dict[int, np.ndarray] = {}
    for number in range(9):
        voxels[number] = rng.integers(-900, 300, (24, 20, 12)) if number != 5 else voxels[4]
        make_scan(
            f"scan_{number}.nii.gz",
            voxels=voxels[number].astype(np.int16),
            folder=tmp_path / "scans" / ("b" if number % 2 else ""),
        )
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"")
    return tmp_path / "scans"


def without_times(path: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: field for name, field in record.items() if name != "timing_ms"} for record in records]


def test_merged_shards_are_the_file_of_one_run(run: Run, make_model: MakeModel, folder: Path, tmp_path: Path) -> None:
    command = ("infer", folder, "-m", make_model(), "-p", "cpu", *DOWNGRADE_ALL)
    assert run(*command, "--out", tmp_path / "whole.jsonl").code == 1
    parts = [tmp_path / f"part{index}.jsonl" for index in (1, 2, 3)]
    for index, part in enumerate(parts, 1):
        outcome = run(*command, "--shard", f"{index}/3", "--out", part)
        assert outcome.code in (0, 1)
        assert f"shard {index}/3: " in outcome.err
    for names in ((), ("--input", folder)):
        merged = run("merge", *reversed(parts), "--out", tmp_path / "merged.jsonl", *names)
        assert merged.code == 1, "one scan has no prediction"
        assert without_times(tmp_path / "merged.jsonl") == without_times(tmp_path / "whole.jsonl")
    assert run("merge", *parts, "--out", tmp_path / "merged.csv").code == 1
    assert (tmp_path / "merged.csv").read_text().count("\n") == 11


def test_resume_keeps_the_finished_file_of_another_shard(
    run: Run, make_model: MakeModel, folder: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.jsonl"
    command = ("infer", folder, "-m", make_model(), "-p", "cpu", *DOWNGRADE_ALL, "--out", part)
    run(*command, "--shard", "1/2")
    before = part.read_bytes()
    outcome = run(*command, "--shard", "2/2", "--resume")
    assert (outcome.code, part.read_bytes()) == (2, before)
    assert "holds records of shard 1/2, not of 2/2 alone" in outcome.err
    assert not part.with_name("part.jsonl.journal").exists()
    assert run(*command, "--shard", "1/2", "--resume").code in (0, 1)


def test_a_missing_part_is_told(run: Run, make_model: MakeModel, folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.jsonl"
    run("infer", folder, "-m", make_model(), "-p", "cpu", *DOWNGRADE_ALL, "--shard", "2/2", "--out", part)
    count = len(part.read_text().splitlines())
    outcome = run("merge", part, "--out", tmp_path / "all.jsonl", "--input", folder)
    assert outcome.code == 1
    assert f"missing: {10 - count} scans without a record: " in outcome.err


def test_merge_names_a_file_given_twice_and_the_option_that_finds_missing_ones(
    run: Run, make_model: MakeModel, folder: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.jsonl"
    run("infer", folder, "-m", make_model(), "-p", "cpu", *DOWNGRADE_ALL, "--shard", "1/2", "--out", part)
    messages = run("merge", part, part, "--out", tmp_path / "all.jsonl").err
    assert "named more than once, read once: " in messages
    assert "Missing shards and scans are named with --input FOLDER only." in messages
    assert "of 1 file" in messages
    assert "--input FOLDER" not in run("merge", part, "--out", tmp_path / "all.jsonl", "--input", folder).err


def test_a_shard_without_scans_is_an_empty_file(run: Run, make_model: MakeModel, folder: Path, tmp_path: Path) -> None:
    from ct3d_edge.results.shards import shard_index

    scan = folder / "scan_0.nii.gz"
    other = shard_index(str(scan), 2) % 2 + 1
    outcome = run(
        "infer", scan, "-m", make_model(), "-p", "cpu", "--shard", f"{other}/2", "--out", tmp_path / "a.jsonl"
    )
    assert outcome.code == 0, outcome.err
    assert "no scans in 0.0 s" in outcome.err
    assert (tmp_path / "a.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("infer", "scans", "--shard", "9/3"), "A shard is I/N with I from 1 to N, such as 3/8; found '9/3'."),
        (("merge", "a.csv", "--out", "b.jsonl"), "Records are merged from .jsonl files"),
        (("merge", "a.jsonl", "--out", "b.jsonl"), "There is no file a.jsonl."),
        (("merge", "c.jsonl", "--out", "b.jsonl"), "c.jsonl is not finished: c.jsonl.journal holds its records"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("c.jsonl.journal").write_text("{}\n")
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
