"""Prepared scans: each read once, never half there, and rebuilt when they are not what they should be."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.errors import DiskError, UsageError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.splits import prepared_cache
from ct3d_edge.splits.prepared_cache import entry_file, map_input, prepare_cache, read_flags
from ct3d_edge.splits.split import SplitEntry

CONTRACT = Contract(shape=(8, 7, 6))
ROOT = Path(__file__).parents[2]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_entries_are_numpy_files_of_what_preprocess_gives(entries: list[SplitEntry], tmp_path: Path) -> None:
    done = prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache").entries
    for entry in entries:
        volume = np.load(done[entry.path].file, mmap_mode="r")
        assert isinstance(volume, np.memmap)
        np.testing.assert_array_equal(volume, preprocess(read_nifti(tmp_path / entry.path), CONTRACT).volume)


def test_entries_are_mapped_without_parsing_python(
    entries: list[SplitEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's parser, with which NumPy reads a header, fails at random in threads before Python 3.11.8."""
    file = prepare_cache(tmp_path, entries[:1], CONTRACT, tmp_path / "cache").entries[entries[0].path].file
    whole = np.load(file)
    monkeypatch.setattr("ast.parse", None)
    volume = map_input(file, CONTRACT.shape)
    np.testing.assert_array_equal(volume, whole)
    assert isinstance(volume, np.memmap)
    assert (volume.dtype.name, volume.flags.writeable) == ("float32", False)


def test_a_second_run_reads_no_scan(entries: list[SplitEntry], tmp_path: Path, reads: list[str]) -> None:
    first = prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    assert len(reads) == 6
    calls: list[tuple[int, int | None, str]] = []
    again = prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert again == first
    assert len(reads) == 6
    assert calls == [(n, 6, "Preparing scans") for n in range(1, 7)]


def test_a_scan_is_known_by_its_content_not_its_name(
    entries: list[SplitEntry], tmp_path: Path, reads: list[str]
) -> None:
    prepare_cache(tmp_path, entries[:1], CONTRACT, tmp_path / "cache")
    moved = SplitEntry("b/other.nii.gz", "b", entries[0].sha256, "validation")
    assert list(prepare_cache(tmp_path, [moved], CONTRACT, tmp_path / "cache").entries) == ["b/other.nii.gz"]
    assert reads == ["s0.nii.gz"]


@pytest.mark.parametrize("other", [Contract(shape=(8, 7, 5)), Contract(shape=(8, 7, 6), hu_window=(-900.0, 400.0))])
def test_another_contract_has_its_own_entries(
    entries: list[SplitEntry], tmp_path: Path, reads: list[str], other: Contract
) -> None:
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    before = files(tmp_path / "cache")
    prepare_cache(tmp_path, entries, other, tmp_path / "cache")
    assert len(reads) == len(files(tmp_path / "cache")) == 12
    assert before.items() <= files(tmp_path / "cache").items()


def test_flags_outlive_the_reading(entries: list[SplitEntry], tmp_path: Path) -> None:
    misnamed = (tmp_path / entries[0].path).rename(tmp_path / "a" / "s.nii")
    entry = SplitEntry("a/s.nii", "a", content_sha256(misnamed), "train")
    for _ in range(2):
        assert prepare_cache(tmp_path, [entry], CONTRACT, tmp_path / "cache").entries["a/s.nii"].flags == (
            "extension_mismatch",
        )


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _turn_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)


def _store(path: Path, volume: NDArray[np.generic]) -> None:
    with path.open("wb") as stream:
        np.save(stream, volume)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 no array"),
        _truncate,
        _turn_one_bit,
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: _store(path, np.zeros((8, 7, 5), np.float32)),
        lambda path: _store(path, np.zeros((8, 7, 6), np.float64)),
        lambda path: _store(path, np.zeros((8, 7, 6), np.float32)),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_entry_alone_is_rebuilt(
    entries: list[SplitEntry], tmp_path: Path, reads: list[str], damage: object
) -> None:
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    before = files(tmp_path / "cache")
    reads.clear()
    assert callable(damage)
    damage(entry_file(tmp_path / "cache", entries[2].sha256, CONTRACT))
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    assert reads == ["s2.nii.gz"]
    assert files(tmp_path / "cache") == before


def test_entries_of_an_older_preparation_do_not_count(
    entries: list[SplitEntry], tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    monkeypatch.setattr(prepared_cache, "VERSION", prepared_cache.VERSION + 1)
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    assert len(reads) == 12


def test_unusable_scans_are_told_and_the_others_are_done(entries: list[SplitEntry], tmp_path: Path) -> None:
    (tmp_path / entries[1].path).write_bytes(b"no scan at all" * 100)
    calls: list[tuple[int, int | None, str]] = []
    made = prepare_cache(
        tmp_path, entries, CONTRACT, tmp_path / "cache", workers=2, progress=lambda *call: calls.append(call)
    )
    (bad,) = made.unusable
    assert (bad.path, bad.code, bad.sha256) == ("a/s1.nii.gz", "not_nifti", entries[1].sha256)
    assert bad.reason.startswith("s1.nii.gz is not a NIfTI file")
    assert set(made.entries) == {entry.path for entry in entries} - {"a/s1.nii.gz"}
    assert [done for done, _, _ in calls] == [1, 2, 3, 4, 5, 6]


def test_processes_write_the_same_bytes(entries: list[SplitEntry], tmp_path: Path) -> None:
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "one", workers=1)
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


class Usage(NamedTuple):
    free: int


def test_room_is_asked_for_what_is_still_missing(
    entries: list[SplitEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 8 * 7 * 6 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2 * one))
    with pytest.raises(UsageError, match=r"6 prepared scans take .*cache has"):
        prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    for few in (entries[:2], entries[:4], entries):
        prepare_cache(tmp_path, few, CONTRACT, tmp_path / "cache")


def test_a_disk_that_fills_up_leaves_no_half_file(
    entries: list[SplitEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    fsync = os.fsync

    def full(handle: int) -> None:
        nonlocal written
        written += 1
        if written > 4:  # of each file, and then of its folder
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"Cannot write .*\.npy: No space left on device"):
        prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    left = list((tmp_path / "cache").iterdir())
    assert len(left) == 2
    assert all(read_flags(path, CONTRACT.shape) is not None for path in left)


def test_a_file_in_the_place_of_the_cache(entries: list[SplitEntry], tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UsageError, match="Cannot make the folder"):
        prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")


def test_what_killed_writers_left_goes_and_what_others_write_stays(entries: list[SplitEntry], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in (".ct3d-old", ".ct3d-new", "mine.txt"):
        (folder / name).touch()
    os.utime(folder / ".ct3d-old", (0, 0))
    os.utime(folder / "mine.txt", (0, 0))
    prepare_cache(tmp_path, entries[:1], CONTRACT, folder)
    assert {".ct3d-new", "mine.txt"} <= set(files(folder))
    assert ".ct3d-old" not in files(folder)


def test_two_volumes_in_turn_are_left_out(tmp_path: Path) -> None:
    first, second = (make_phantom(seed, abnormal=False, shape=(128, 128, 40)) for seed in (3, 4))
    mixed = first.hu.copy()
    mixed[..., 1::2] = second.hu[..., 1::2]
    scans = []
    for name, hu in (("sound", first.hu), ("mixed", mixed)):
        save_scan(replace(first, hu=hu), tmp_path / f"{name}.nii")
        scans.append(SplitEntry(f"{name}.nii", "a", content_sha256(tmp_path / f"{name}.nii"), "train"))
    prepared = prepare_cache(tmp_path, scans, Contract(), tmp_path / "cache")
    assert list(prepared.entries) == ["sound.nii"]
    assert [(scan.path, scan.code) for scan in prepared.unusable] == [("mixed.nii", "slice_order")]
