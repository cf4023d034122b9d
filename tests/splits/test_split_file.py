"""The JSON form: canonical, whole, and parsed with suspicion."""

import json
from pathlib import Path
from typing import Any

import pytest

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split import ExcludedScan, Split
from ct3d_edge.splits.split_file import from_json, read_split, to_json, write_split

from .conftest import Fill


@pytest.fixture
def split(fill: Fill) -> Split:
    """With everything that a split can hold."""
    folder = fill({"a": 8, "b": 8})
    (folder / "a" / "copy.nii.gz").write_bytes((folder / "a" / "a_0003.nii.gz").read_bytes())
    (folder / "b" / "empty.nii.gz").touch()
    scans = [path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")]
    table = folder.parent / "patients.csv"
    rows = [f"{scan},{scan.replace('copy', 'a_0003')}" for scan in scans]
    table.write_text("\n".join(["scan,patient", *rows]))
    return create_split(folder, seed=7, test=0.25, folds=2, patients=table, skip_bad=True)


def test_what_is_written_is_what_is_read(split: Split, tmp_path: Path) -> None:
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert to_json(from_json(to_json(split))) == to_json(split)


def test_a_byte_order_mark_is_passed_over(split: Split, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_bytes(b"\xef\xbb\xbf" + to_json(split).encode())
    assert read_split(tmp_path / "split.json") == split


def test_the_form(split: Split) -> None:
    data = json.loads(to_json(split))
    assert list(data) == ["schema", "seed", "classes", "fractions", "folds", "entries", "duplicates", "left_out"]
    assert (data["schema"], data["seed"], data["classes"]) == (2, 7, ["a", "b"])
    assert data["fractions"] == {"validation": 0.3, "test": 0.25}
    assert data["duplicates"] == [{"path": "a/copy.nii.gz", "of": "a/a_0003.nii.gz"}]
    reason = "empty.nii.gz is empty (0 bytes). Copy or export it again."
    assert data["left_out"] == [{"path": "b/empty.nii.gz", "code": "empty", "reason": reason}]
    first = data["entries"][0]
    assert list(first)[:4] == ["path", "class", "sha256", "subset"]
    assert ("fold" in first) == (first["subset"] != "test")


def test_one_file_a_line(split: Split) -> None:
    lines = to_json(split).splitlines()
    assert sum('"sha256"' in line for line in lines) == len(split.entries) == 16


def test_a_file_name_that_is_no_text_survives(fill: Fill) -> None:
    folder = fill({"a": 2, "b": 2})
    try:
        (folder / "a" / "caf\udce9.nii").write_bytes(b"x")
    except (OSError, UnicodeError):
        pytest.skip("this file system keeps names as text")
    split = create_split(folder)
    assert from_json(to_json(split)) == split


def _change(split: Split, **fields: Any) -> str:
    return json.dumps({**json.loads(to_json(split)), **fields})


def _edit(split: Split, number: int, **fields: Any) -> str:
    data = json.loads(to_json(split))
    data["entries"][number].update(fields)
    return json.dumps(data)


def test_a_split_of_another_version_says_the_way_out(split: Split) -> None:
    with pytest.raises(DatasetError, match=r"schema version 1; this .* version 2\. Make the split again: ct3d-edge"):
        from_json(_change(split, schema=1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": "7"}, "The split: seed: expected `int`, found '7'"),
        ({"folds": True}, r"folds: expected `int \| null`, found True"),
        ({"fractions": {"validation": 0.3}}, "fractions: object missing required field `test`"),
        ({"fractions": {"validation": 0.3, "test": "0"}}, "fractions.test: expected `float`, found '0'"),
        ({"fractions": {"validation": 0.3, "test": 1.5}}, "fractions.test: expected `float` <= 1.0, found 1.5"),
        ({"entries": {}}, "entries: expected `array`, found {}"),
        ({"entries": [3]}, r"entries\[0\]: expected `object`, found 3"),
        ({"classes": "ab"}, "classes: expected `array`, found 'ab'"),
        ({"more": 1}, "The split: object contains unknown field `more`"),
        ({"duplicates": [{"path": "a/x"}]}, r"duplicates\[0\]: object missing required field `of`"),
        ({"duplicates": [{"path": "a/x", "of": "a/gone"}]}, "a/x repeats a/gone, which is not in it"),
        ({"left_out": [{"path": "a/x", "code": 3, "reason": "r"}]}, r"left_out\[0\]\.code: expected `str`, found 3"),
    ],
)
def test_what_does_not_follow_the_form_is_refused(split: Split, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        from_json(_change(split, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "abc"}, r"sha256: expected `str` matching regex .*, found 'abc'"),
        ({"subset": "dev"}, "subset: invalid enum value 'dev'"),
        ({"path": "a/../../etc/passwd"}, "is no path inside the class folders"),
        ({"path": "/etc/passwd"}, "is no path inside the class folders"),
        ({"path": "b/a_0000.nii.gz"}, "is no path inside the class folders"),
        ({"path": "a"}, "is no path inside the class folders"),
        ({"path": "a/a_0001.nii.gz"}, r"a/a_0001\.nii\.gz stands in it twice"),
        ({"class": "c"}, "is no path inside the class folders"),
        ({"fold": 2}, "has fold 2 of 2"),
    ],
)
def test_an_edited_entry_is_refused(split: Split, fields: dict[str, Any], message: str) -> None:
    number = next(n for n, entry in enumerate(split.entries) if entry.subset != "test" and n != 1)
    with pytest.raises(DatasetError, match=message):
        from_json(_edit(split, number, **fields))


def test_edits_that_leak_are_refused(split: Split) -> None:
    first, second = split.train[:2]
    place = split.entries.index(second)
    with pytest.raises(DatasetError, match=f"two scans have the content {first.sha256}"):
        from_json(_edit(split, place, sha256=first.sha256))
    moved = json.loads(_edit(split, place, patient=first.patient, subset="validation"))
    with pytest.raises(DatasetError, match=f"patient {first.patient} is in two subsets"):
        from_json(json.dumps(moved))
    other = next(n for n, entry in enumerate(split.entries) if entry.fold == 1)
    same = next(n for n, entry in enumerate(split.entries) if entry.fold == 0)
    data = json.loads(to_json(split))
    for number in (other, same):
        data["entries"][number].update(patient="x", subset="train")
    with pytest.raises(DatasetError, match="patient x is in two folds"):
        from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '"text"', "null", '{"schema": NaN}'])
def test_what_is_no_split_at_all(text: str) -> None:
    with pytest.raises(DatasetError, match=r"^The split (is not valid JSON|is a JSON|has schema version None)"):
        from_json(text)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"The split .*nowhere\.json cannot be read: No such file"):
        read_split(tmp_path / "nowhere.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"The split .*bytes\.json cannot be read: 'utf-8' codec"):
        read_split(tmp_path / "bytes.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"other\.json: The split has schema version None"):
        read_split(tmp_path / "other.json")


def test_a_place_that_cannot_be_written(split: Split, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot write"):
        write_split(tmp_path / "no" / "split.json", split)


def test_scans_found_unusable_leave_the_entries_and_stay_on_record(split: Split) -> None:
    gone = split.train[0]
    note = ExcludedScan(gone.path, "truncated", "It ends too early.", gone.sha256)
    less = split.without([note])
    assert set(split.entries) - set(less.entries) == {gone}
    assert set(less.left_out) == {*split.left_out, note}
    assert from_json(to_json(less)) == less
