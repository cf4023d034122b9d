"""What an archive may hold: everything else is refused before a byte of it is on the disk."""

import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from published import class_archive, entry, noise, tree, zip_of

from ct3d_edge.datasets.unpack import LIMITS, ArchiveContents, ArchiveLimits, unpacked
from ct3d_edge.errors import DatasetError, UsageError

SCAN = ("a.nii.gz", noise(50))


def unpack(folder: Path, data: bytes, limits: ArchiveLimits = LIMITS) -> ArchiveContents:
    archive = folder / "CT-0.zip"
    archive.write_bytes(data)
    with unpacked(archive, folder / "CT-0", limits=limits) as contents:
        assert not (folder / "CT-0").exists()
    return contents


def require_refused(folder: Path, data: bytes, message: str, limits: ArchiveLimits = LIMITS) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        unpack(folder, data, limits)
    assert str(folder / "CT-0.zip") in str(caught.value)
    assert str(caught.value).isprintable()
    assert tree(folder) == ["CT-0.zip"]


def test_scans_come_out_without_their_folders_and_nothing_else_does(tmp_path: Path) -> None:
    data = zip_of([("x/", b""), ("x/deep/a.nii.gz", b"A" * 9), ("b.NII", b""), ("x/readme.txt", b"?"), (".c.nii", b"")])
    assert unpack(tmp_path, data) == ArchiveContents(2, 9)
    assert tree(tmp_path / "CT-0") == ["a.nii.gz", "b.NII"]
    assert (tmp_path / "CT-0" / "a.nii.gz").read_bytes() == b"A" * 9
    assert ArchiveContents.of(tmp_path / "CT-0") == ArchiveContents(2, 9)


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".CT-0.part").mkdir()
    (tmp_path / ".CT-0.part" / "half.nii").touch()
    unpack(tmp_path, zip_of([SCAN]))
    assert tree(tmp_path) == ["CT-0", "CT-0.zip", "CT-0/a.nii.gz"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/a.nii", "absolute"),
        ("//server/a.nii", "absolute"),
        ("../a.nii", "out of its folder"),
        ("x/../../a.nii", "out of its folder"),
        ("x/..", "out of its folder"),
        ("C:/a.nii", "drive"),
        ("C:a.nii", "drive"),
        ("a.nii:stream.nii", "drive"),
        ("..\\a.nii", "Windows"),
        ("\\\\server\\a.nii", "Windows"),
        ("x/./a.nii", "no plain path"),
        ("x//a.nii", "no plain path"),
        ("\x1b[2Ja.nii", "no plain path"),
        ("a\n.nii", "no plain path"),
        ("\u202eiin.a.nii", "no plain path"),
        ("NUL.nii", "device"),
        ("x/com1.nii.gz", "device"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_paths_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str, message: str, first: bool) -> None:
    pair = [(name, b"x"), SCAN] if first else [SCAN, (name, b"x")]
    require_refused(tmp_path, zip_of(pair), message)


def test_a_name_that_ends_early_for_some_readers_is_refused(tmp_path: Path) -> None:
    data = zip_of([("a.niiXevil", b"x")]).replace(b"a.niiXevil", b"a.nii\0evil")
    require_refused(tmp_path, data, "no plain path")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (stat.S_IFLNK, "is a link"),
        (stat.S_IFIFO, "special"),
        (stat.S_IFCHR, "special"),
        (stat.S_IFBLK, "special"),
        (stat.S_IFSOCK, "special"),
        (stat.S_IFDIR, "special"),
    ],
)
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int, message: str) -> None:
    require_refused(tmp_path, zip_of([SCAN, (entry("b.nii", mode=kind | 0o777), b"/etc/passwd")]), message)


def test_links_of_windows_are_refused(tmp_path: Path) -> None:
    require_refused(tmp_path, zip_of([SCAN, (entry("b.nii", attributes=0x400), b"C:")]), "is a link")


def test_permissions_of_an_archive_are_not_taken(tmp_path: Path) -> None:
    unpack(tmp_path, zip_of([(entry("a.nii", mode=stat.S_IFREG | 0o6777), b"x")]))
    assert (tmp_path / "CT-0" / "a.nii").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize(
    "names",
    [("a.nii", "a.nii"), ("a.nii", "A.NII"), ("x/a.nii", "y/a.nii"), ("é.nii", "e\u0301.nii"), ("x/t", "X/T")],
)
def test_two_entries_that_would_be_one_file_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    require_refused(tmp_path, zip_of([("s.nii", b"s"), *((name, b"x") for name in names)]), "one file")


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of([SCAN]))
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    require_refused(tmp_path, bytes(data), "is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr(*SCAN)
    require_refused(tmp_path, target.getvalue(), f"compressed by method {method}")


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    require_refused(tmp_path, zip_of([("a.nii", bytes(200_000))]), "more than 100 times its size")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ArchiveLimits(entries=2), "3 entries; 2 are allowed"),
        (ArchiveLimits(entry_bytes=49), "50 bytes; 49 are allowed"),
        (ArchiveLimits(total_bytes=149), "150 bytes; 149 are allowed"),
    ],
)
def test_limits_hold(tmp_path: Path, limits: ArchiveLimits, message: str) -> None:
    require_refused(tmp_path, zip_of([(f"{n}.nii", noise(50, n)) for n in range(3)]), message, limits)


@pytest.mark.parametrize("declared", [0, 10, 51, 4_000])
def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path, declared: int) -> None:
    data = bytearray(zip_of([SCAN]))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, declared)
    require_refused(tmp_path, bytes(data), r"no sound zip archive|has 50 of|Its entry")


def test_an_archive_without_scans_is_refused(tmp_path: Path) -> None:
    require_refused(tmp_path, zip_of([("readme.txt", b"?")]), r"no scans: none of its 1 entries ends in \.nii or")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    require_refused(tmp_path, data, "no sound zip archive")


def test_an_archive_cut_off_or_damaged_anywhere_is_refused_or_sound(tmp_path: Path) -> None:
    whole = class_archive("CT-0", scans=1, size=40)
    cut = [whole[:size] for size in range(0, len(whole), 7)]
    flipped = [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(len(whole))]
    for number, data in enumerate([*cut, *flipped]):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            unpack(folder, data)
        except DatasetError:
            assert tree(folder) == ["CT-0.zip"]
        else:
            (scan,) = (folder / "CT-0").iterdir()
            assert scan.read_bytes() == noise(40)


def test_a_full_disk_is_told_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=49)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(UsageError, match=r"Unpacking CT-0 takes .* [kMGT]?B are free"):
        unpack(tmp_path, zip_of([SCAN]))
    assert tree(tmp_path) == ["CT-0.zip"]
