"""What a scan holds, as a hash, and whether somebody wrote to it in between."""

import hashlib
import os
from pathlib import Path

import pytest

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan import loader
from ct3d_edge.scan.loader import FileStamp, content_sha256


def test_large_files_are_hashed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "HASH_BLOCK", 1000)
    data = bytes(range(256)) * 20
    (tmp_path / "scan.nii").write_bytes(data)
    assert content_sha256(tmp_path / "scan.nii") == hashlib.sha256(data).hexdigest()


def test_a_pair_is_one_content(tmp_path: Path) -> None:
    (tmp_path / "scan.hdr").write_bytes(b"header")
    (tmp_path / "scan.img").write_bytes(b"voxels")
    expected = hashlib.sha256(b"headervoxels").hexdigest()
    assert content_sha256(tmp_path / "scan.hdr") == content_sha256(tmp_path / "scan.img") == expected


def test_a_link_to_itself_is_unreadable(tmp_path: Path) -> None:
    loop = tmp_path / "loop.nii"
    loop.symlink_to(loop)
    with pytest.raises(UnreadableScanError) as caught:
        content_sha256(loop)
    assert caught.value.code == "unreadable"


def test_a_stamp_changes_with_content_with_time_and_with_the_file_behind_a_name(tmp_path: Path) -> None:
    scan, other = tmp_path / "scan.nii", tmp_path / "other.nii"
    scan.write_bytes(b"voxels")
    first = FileStamp.of(scan)
    assert FileStamp.of(scan) == first
    os.utime(scan, ns=(0, first.files[0][3] + 1 if first.files[0] else 0))
    touched = FileStamp.of(scan)
    other.write_bytes(b"voxels")
    other.replace(scan)
    assert len({first, touched, FileStamp.of(scan)}) == 3


@pytest.mark.parametrize("present", [(), ("scan.hdr",), ("scan.img",)])
def test_a_pair_is_complete_with_both_files(tmp_path: Path, present: tuple[str, ...]) -> None:
    for name in present:
        (tmp_path / name).write_bytes(b"bytes")
    assert not FileStamp.of(tmp_path / "scan.hdr").complete
    for name in ("scan.hdr", "scan.img"):
        (tmp_path / name).write_bytes(b"bytes")
    assert FileStamp.of(tmp_path / "scan.hdr").complete


def test_an_empty_or_absent_file_is_not_complete(tmp_path: Path) -> None:
    (tmp_path / "empty.nii").touch()
    assert not FileStamp.of(tmp_path / "empty.nii").complete
    assert not FileStamp.of(tmp_path / "absent.nii").complete
