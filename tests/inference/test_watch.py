"""Scans that somebody else is still writing are left alone; whole ones are reported once."""

import os
from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.inference.watch import WatchedFolder


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(tmp_path: Path, clock: Clock) -> WatchedFolder:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return WatchedFolder(folder, stable_for=5, clock=clock)


def after(seconds: float, inbox: WatchedFolder, clock: Clock) -> list[str]:
    clock.now += seconds
    return [scan.name for scan in inbox.poll()]


def test_a_scan_is_reported_once_when_it_has_not_changed_for_a_while(inbox: WatchedFolder, clock: Clock) -> None:
    (inbox.folder / "a.nii.gz").write_bytes(b"bytes")
    assert after(0, inbox, clock) == []
    assert (inbox.pending, inbox.folder / "a.nii.gz" in inbox) == (1, True)
    assert after(4.9, inbox, clock) == []
    assert after(0.1, inbox, clock) == ["a.nii.gz"]
    assert inbox.pending == 0
    assert after(100, inbox, clock) == []


def test_a_scan_that_grows_is_waited_for(inbox: WatchedFolder, clock: Clock) -> None:
    for _ in range(5):
        with (inbox.folder / "a.nii").open("ab") as stream:
            stream.write(b"more")
        assert after(4, inbox, clock) == []
    assert after(5, inbox, clock) == ["a.nii"]


def test_a_copy_that_keeps_its_size_is_waited_for(inbox: WatchedFolder, clock: Clock) -> None:
    """Some programs allocate the whole file first and fill it afterwards: the time tells."""
    scan = inbox.folder / "a.nii"
    for moment in range(3):
        scan.write_bytes(b"0000")
        os.utime(scan, ns=(moment, moment))
        assert after(4, inbox, clock) == []
    assert after(5, inbox, clock) == ["a.nii"]


def test_a_scan_that_changes_later_is_reported_again(inbox: WatchedFolder, clock: Clock) -> None:
    scan = inbox.folder / "a.nii"
    scan.write_bytes(b"first")
    assert [after(0, inbox, clock), after(5, inbox, clock)] == [[], ["a.nii"]]
    scan.write_bytes(b"second")
    assert [after(1, inbox, clock), after(5, inbox, clock)] == [[], ["a.nii"]]
    scan.unlink()
    assert after(1, inbox, clock) == []
    scan.write_bytes(b"second")
    assert [after(1, inbox, clock), after(5, inbox, clock)] == [[], ["a.nii"]]


def test_unfinished_names_do_not_count_until_they_are_renamed(inbox: WatchedFolder, clock: Clock) -> None:
    for name in (".a.nii.gz.Xy7", "a.nii.gz.part", "a.nii.gz.filepart", "a.nii.tmp", "a.nii~", "a_mask.nii.gz"):
        (inbox.folder / name).write_bytes(b"bytes")
    assert [after(0, inbox, clock), after(500, inbox, clock)] == [[], []]
    (inbox.folder / "a.nii.gz.part").rename(inbox.folder / "a.nii.gz")
    assert [after(1, inbox, clock), after(5, inbox, clock)] == [[], ["a.nii.gz"]]


def test_half_a_pair_and_an_empty_file_get_more_time(inbox: WatchedFolder, clock: Clock) -> None:
    (inbox.folder / "pair.hdr").write_bytes(b"header")
    (inbox.folder / "empty.nii").touch()
    assert [after(0, inbox, clock), after(49, inbox, clock)] == [[], []]
    assert after(1, inbox, clock) == ["empty.nii", "pair.hdr"]
    (inbox.folder / "pair.img").write_bytes(b"voxels")
    assert [after(1, inbox, clock), after(5, inbox, clock)] == [[], ["pair.hdr"]]


def test_the_oldest_comes_first(inbox: WatchedFolder, clock: Clock) -> None:
    for name, changed in (("c.nii", 1), ("a.nii", 3), ("b.nii", 2)):
        (inbox.folder / name).write_bytes(b"bytes")
        os.utime(inbox.folder / name, ns=(changed, changed))
    assert [after(0, inbox, clock), after(5, inbox, clock)] == [[], ["c.nii", "b.nii", "a.nii"]]


def test_a_folder_that_vanishes_for_a_while_is_not_forgotten(inbox: WatchedFolder, clock: Clock) -> None:
    (inbox.folder / "a.nii").write_bytes(b"bytes")
    assert [after(0, inbox, clock), after(5, inbox, clock)] == [[], ["a.nii"]]
    away = inbox.folder.rename(inbox.folder.with_name("away"))
    with pytest.raises(UsageError, match=r"The folder .*incoming cannot be searched: No such file or directory"):
        inbox.poll()
    away.rename(inbox.folder)
    assert after(5, inbox, clock) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for_and_reported_in_the_end(inbox: WatchedFolder, clock: Clock) -> None:
    os.mkfifo(inbox.folder / "pipe.nii.gz")
    os.mkfifo(inbox.folder / "pipe.dcm")
    (inbox.folder / "a.nii.gz").write_bytes(b"bytes")
    assert after(0, inbox, clock) == []
    assert after(5, inbox, clock) == ["a.nii.gz"]
    assert sorted(after(45, inbox, clock)) == ["pipe.dcm", "pipe.nii.gz"]
