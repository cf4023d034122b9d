"""Shards of a run and their merge, with records made by hand; the commands are tested in tests/cli/test_shard.py."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from records import ANSWERED, FAILED

from ct3d_edge.errors import UsageError
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.results.shards import Shard, merge_records, shard_index

NAMES = [f"scans/{folder}/{number:03}.nii.gz" for folder in ("a", "b") for number in range(200)]


def record(scan: str, **changes: object) -> ResultRecord:
    return replace(ANSWERED, scan=scan, flags=(), **{"input_sha256": scan, "status": "ok", **changes})  # type: ignore[arg-type]


def test_every_scan_belongs_to_one_shard_and_shards_are_alike_in_size() -> None:
    parts = [Shard(index, 8).select(map(Path, NAMES)) for index in range(1, 9)]
    assert sorted(str(scan) for part in parts for scan in part) == sorted(NAMES)
    sizes = Counter(shard_index(name, 8) for name in NAMES)
    assert min(sizes.values()) > 25
    assert max(sizes.values()) < 80


def test_more_scans_move_no_other_scan() -> None:
    before = set(Shard(2, 5).select(map(Path, NAMES[:100])))
    assert before <= set(Shard(2, 5).select(map(Path, NAMES)))


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="A shard is I/N with I from 1 to N"):
        Shard.parse(text)


def test_records_come_in_the_order_of_one_run() -> None:
    names = ["s/b.nii", "s/c/a.nii", "s/c/z.nii", "s/d.nii"]
    found = merge_records({"1": [record(names[1]), record(names[3])], "2": [record(names[2]), record(names[0])]})
    assert [each.scan for each in found.records] == ["s/b.nii", "s/d.nii", "s/c/a.nii", "s/c/z.nii"]
    named = merge_records({"1": [record(name) for name in reversed(names)]}, names)
    assert [each.scan for each in named.records] == names


def test_missing_repeated_and_strange_records_are_named() -> None:
    a, b, c = (record(name) for name in "abc")
    found = merge_records({"1": [a, b], "2": [b]}, ["a", "b", "c"])
    assert (found.missing, found.repeated) == (("c",), ("b",))
    with pytest.raises(UsageError, match="1 record of scans that are not among those named: c"):
        merge_records({"1": [a, c]}, ["a"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model_sha256": "other"}, "model"),
        ({"contract_sha256": "other"}, "contract"),
        ({"precision": "bf16"}, "precision"),
        ({"allowed": ("spacing",)}, "downgraded checks"),
    ],
)
def test_results_of_another_run_are_refused(change: dict[str, object], what: str) -> None:
    ours = record("a", precision="fp32")
    with pytest.raises(UsageError, match=rf"x and y are not of one run: the {what} of a is"):
        merge_records({"x": [ours], "y": [record("b", **{"precision": "fp32", **change})]})
    assert len(merge_records({"x": [ours], "y": [record("b")]}).records) == 2, (
        "a precision that is not known may be any"
    )


def test_two_results_of_one_scan_are_refused() -> None:
    failed = replace(FAILED, scan="a", model_sha256=ANSWERED.model_sha256, contract_sha256=ANSWERED.contract_sha256)
    with pytest.raises(UsageError, match="x and y have different records of a"):
        merge_records({"x": [record("a")], "y": [failed]})


def test_a_scan_that_is_a_duplicate_of_one_in_another_shard_is_flagged() -> None:
    first, second = record("a", input_sha256="same"), record("b", input_sha256="same")
    merged = merge_records({"1": [second], "2": [first]}).records
    assert [(each.status, [flag.code for flag in each.flags]) for each in merged] == [
        ("ok", []),
        ("warn", ["duplicate"]),
    ]
    (alone,) = merge_records({"1": [merged[1]]}).records
    assert alone == second


def test_a_precision_that_one_record_lacks_hides_no_other() -> None:
    three = {"1": [record("a")], "2": [record("b", precision="fp32")], "3": [record("c", precision="int8")]}
    with pytest.raises(UsageError, match="2 and 3 are not of one run: the precision of b is fp32, that of c int8"):
        merge_records(three)


def test_a_record_that_differs_by_its_duplicate_flag_alone_is_the_same() -> None:
    first, second = record("a", input_sha256="same"), record("b", input_sha256="same")
    whole = merge_records({"1": [first, second]}).records
    merged = merge_records({"whole": list(whole), "part": [second]})
    assert (merged.records, merged.repeated) == (whole, ("b",))
