"""What an archive may hold: everything else is refused before a byte of it is on the disk."""

import io
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from products import each_value
from published import class_archive, entry, noise, tree, zip_of

from ct3d_edge.datasets import unpack
from ct3d_edge.datasets.unpack import unpack_scans
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.system.zip_entries import ZipLimits

SCAN = ("a.nii.gz", noise(50))


def unpack_bytes(folder: Path, data: bytes) -> None:
    (folder / "CT-0.zip").write_bytes(data)
    unpack_scans(folder / "CT-0.zip", folder / "CT-0", lambda *_: None)


def require_refused(folder: Path, data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        unpack_bytes(folder, data)
    assert str(folder / "CT-0.zip") in str(caught.value)
    assert str(caught.value).isprintable()
    assert not list((folder / "CT-0").iterdir())


def test_scans_come_out_without_their_folders_and_nothing_else_does(tmp_path: Path) -> None:
    data = zip_of([("x/", b""), ("x/deep/a.nii.gz", b"A" * 9), ("b.NII", b""), ("x/readme.txt", b"?"), (".c.nii", b"")])
    unpack_bytes(tmp_path, data)
    assert tree(tmp_path / "CT-0") == ["a.nii.gz", "b.NII"]
    assert (tmp_path / "CT-0" / "a.nii.gz").read_bytes() == b"A" * 9


@pytest.mark.parametrize(
    ("name", "first"),
    each_value(
        [
            "/etc/a.nii",
            "//server/a.nii",
            "../a.nii",
            "x/../../a.nii",
            "x/..",
            "C:/a.nii",
            "C:a.nii",
            "a.nii:stream.nii",
            "..\\a.nii",
            "\\\\server\\a.nii",
            "x/./a.nii",
            "x//a.nii",
            "\x1b[2Ja.nii",
            "a\n.nii",
            "\u202eiin.a.nii",
        ],
        [True, False],
    ),
)
def test_paths_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str, first: bool) -> None:
    pair = [(name, b"x"), SCAN] if first else [SCAN, (name, b"x")]
    require_refused(tmp_path, zip_of(pair), "no plain relative path")


def test_a_name_that_ends_early_for_some_readers_is_refused(tmp_path: Path) -> None:
    data = zip_of([("a.niiXevil", b"x")]).replace(b"a.niiXevil", b"a.nii\0evil")
    require_refused(tmp_path, data, "no plain relative path")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    data = zip_of([SCAN, (entry("b.nii", mode=kind | 0o777), b"/etc/passwd")])
    require_refused(tmp_path, data, "is a link or special file")


def test_links_of_windows_are_refused(tmp_path: Path) -> None:
    data = zip_of([SCAN, (entry("b.nii", attributes=0x400), b"C:")])
    require_refused(tmp_path, data, "is a link or special file")


def test_permissions_of_an_archive_are_not_taken(tmp_path: Path) -> None:
    unpack_bytes(tmp_path, zip_of([(entry("a.nii", mode=stat.S_IFREG | 0o6777), b"x")]))
    assert (tmp_path / "CT-0" / "a.nii").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("names", [("a.nii", "a.nii"), ("a.nii", "A.NII"), ("x/a.nii", "y/a.nii")])
def test_two_scans_that_would_be_one_file_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    require_refused(tmp_path, zip_of([(name, b"x") for name in names]), "one file")


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
    require_refused(tmp_path, target.getvalue(), "compressed by another method")


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    require_refused(tmp_path, zip_of([("a.nii", bytes(200_000))]), "would unpack from .* to 200,000 bytes")


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("entries", 2, "over 2 files"),
        ("entry_bytes", 49, "to 50 bytes"),
        ("total_bytes", 149, "or 149 B"),
    ],
)
def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str) -> None:
    monkeypatch.setattr(unpack, "LIMITS", ZipLimits(**{limit: value}))
    require_refused(tmp_path, zip_of([(f"{n}.nii", noise(50, n)) for n in range(3)]), message)


@pytest.mark.parametrize("declared", [0, 10, 51, 4_000])
def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path, declared: int) -> None:
    data = bytearray(zip_of([SCAN]))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, declared)
    with pytest.raises(DatasetError, match=r"no sound archive of scans|has 50 of|is damaged"):
        unpack_bytes(tmp_path, bytes(data))


def test_an_archive_without_scans_is_refused(tmp_path: Path) -> None:
    require_refused(tmp_path, zip_of([("readme.txt", b"?")]), "it holds no scans")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    require_refused(tmp_path, data, "no sound archive of scans")


def test_an_archive_cut_off_or_damaged_anywhere_is_refused_or_sound(tmp_path: Path) -> None:
    whole = class_archive("CT-0", scans=1, size=40)
    cut = [whole[:size] for size in range(0, len(whole), 7)]
    flipped = [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(len(whole))]
    sound = 0
    for number, data in enumerate([*cut, *flipped]):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            unpack_bytes(folder, data)
        except DatasetError:
            continue
        (scan,) = (folder / "CT-0").iterdir()
        assert scan.read_bytes() == noise(40)
        sound += 1
    assert 0 < sound < len(flipped)


def test_a_full_disk_is_reported_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=49)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(UsageError, match=r"Unpacking CT-0\.zip takes .* [kMGT]?B are free"):
        unpack_bytes(tmp_path, zip_of([SCAN]))
    assert not list((tmp_path / "CT-0").iterdir())
