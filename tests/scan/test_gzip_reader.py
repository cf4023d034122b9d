import gzip
import os
import tracemalloc
import zlib
from pathlib import Path

import pytest
from published import noise

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.gzip_reader import BLOCK_BYTES, MAX_TRAILER_BYTES, ScanReader

TEXT = bytes(range(256)) * 40


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read_all(path: Path, count: int = len(TEXT)) -> bytes:
    with ScanReader(path) as stream:
        data = stream.read(count)
        stream.finish()
    return data


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan"])
def test_content_not_the_name_says_whether_it_is_compressed(tmp_path: Path, name: str, compressed: bool) -> None:
    path = write(tmp_path / name, gzip.compress(TEXT) if compressed else TEXT)
    assert read_all(path) == TEXT
    with ScanReader(path) as stream:
        assert stream.compressed is compressed


def test_pieces_follow_each_other(tmp_path: Path) -> None:
    with ScanReader(write(tmp_path / "a.gz", gzip.compress(TEXT))) as stream:
        assert stream.read(10) + stream.read(0) + stream.read(20) == TEXT[:30]


def test_more_than_a_block_is_read_completely(tmp_path: Path) -> None:
    text = TEXT * (2 * BLOCK_BYTES // len(TEXT) + 1)
    assert read_all(write(tmp_path / "a.gz", gzip.compress(text, 1)), len(text)) == text


def test_what_is_skipped_takes_no_room(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(bytes(100 * BLOCK_BYTES + 7) + TEXT, 1))
    with ScanReader(path) as stream:
        tracemalloc.start()
        stream.skip(100 * BLOCK_BYTES + 7)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert stream.read(len(TEXT)) == TEXT
    assert peak < 4 * BLOCK_BYTES


@pytest.mark.parametrize("at", [0, 1, 100, len(TEXT) - 1])
def test_members_of_a_gzip_file_are_joined(tmp_path: Path, at: int) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(TEXT[:at]) + gzip.compress(TEXT[at:]))
    assert read_all(path) == TEXT


def test_zero_padding_behind_a_gzip_file_is_no_fault(tmp_path: Path) -> None:
    assert read_all(write(tmp_path / "a.gz", gzip.compress(TEXT) + bytes(512))) == TEXT


def test_a_gzip_header_with_name_and_comment_is_understood(tmp_path: Path) -> None:
    header = b"\x1f\x8b\x08\x18" + bytes(6) + b"scan.nii\0" + b"a comment\0"
    trailer = zlib.crc32(TEXT).to_bytes(4, "little") + len(TEXT).to_bytes(4, "little")
    assert read_all(write(tmp_path / "a.gz", header + raw_deflate(TEXT) + trailer)) == TEXT


GZ = gzip.compress(TEXT, mtime=0)

FAULTS = {
    "no byte": (b"", "empty"),
    "plain, too short": (TEXT[:-1], "truncated"),
    "gzip of too few bytes": (gzip.compress(TEXT[:-1]), "truncated"),
    "gzip of nothing": (gzip.compress(b""), "truncated"),
    "only the magic": (GZ[:2], "truncated"),
    "cut in the gzip header": (GZ[:7], "truncated"),
    "cut in the middle": (GZ[: len(GZ) // 2], "truncated"),
    "cut before the trailer": (GZ[:-8], "truncated"),
    "cut in the trailer": (GZ[:-4], "truncated"),
    "second member cut": (gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:])[:-9], "truncated"),
    "checksum changed": (flipped(GZ, -8), "bad_checksum"),
    "checksum of the first member changed": (
        flipped(gzip.compress(TEXT[:99]), -8) + gzip.compress(TEXT[99:]),
        "bad_checksum",
    ),
    "length changed": (flipped(GZ, -1), "corrupt_gzip"),
    "unknown compression method": (flipped(GZ, 2), "corrupt_gzip"),
    "no deflate block": (GZ[:10] + b"\xff" + GZ[11:], "corrupt_gzip"),
    "far more data than asked for": (gzip.compress(TEXT + bytes(MAX_TRAILER_BYTES + 1)), "trailing_data"),
}


@pytest.mark.parametrize(("data", "code"), FAULTS.values(), ids=FAULTS)
def test_every_damage_has_its_code(tmp_path: Path, data: bytes, code: str) -> None:
    with pytest.raises(UnreadableScanError) as caught:
        read_all(write(tmp_path / "scan.nii.gz", data))
    assert caught.value.code == code
    assert "scan.nii.gz" in str(caught.value)


def test_some_data_behind_the_voxels_is_tolerated(tmp_path: Path) -> None:
    assert read_all(write(tmp_path / "a.gz", gzip.compress(TEXT + bytes(MAX_TRAILER_BYTES)))) == TEXT


JUNK = (
    b"x",
    b"something else",
    bytes(9) + b"something else",
    noise(3 * BLOCK_BYTES, seed=1),
    bytes(BLOCK_BYTES) + b"x",
)


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
@pytest.mark.parametrize("members", [1, 2])
def test_what_follows_a_sound_member_is_not_read(tmp_path: Path, junk: bytes, members: int) -> None:
    data = noise(5 * BLOCK_BYTES // 2)
    path = write(tmp_path / "a.gz", gzip.compress(data[: len(data) // members]) + junk)
    if members == 2:
        path = write(tmp_path / "a.gz", gzip.compress(data[:99]) + gzip.compress(data[99:]) + junk)
    with ScanReader(path) as stream:
        assert stream.read(100) + stream.read(len(data) - 100) == data
        stream.finish()
        assert stream.has_trailing_bytes
        stream.finish()
    with pytest.raises(UnreadableScanError) as caught:
        read_all(path, len(data) + 1)
    assert caught.value.code == "truncated"


def test_zeros_behind_a_sound_member_are_padding(tmp_path: Path) -> None:
    with ScanReader(write(tmp_path / "a.gz", gzip.compress(TEXT) + bytes(600) + gzip.compress(TEXT))) as stream:
        assert stream.read(2 * len(TEXT)) == TEXT * 2
        stream.finish()
        assert not stream.has_trailing_bytes


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(UnreadableScanError) as caught:
        ScanReader(tmp_path / "none.nii")
    assert caught.value.code == "not_found"


def test_a_folder_is_unreadable(tmp_path: Path) -> None:
    folder = tmp_path / "folder.nii"
    folder.mkdir()
    with pytest.raises(UnreadableScanError) as caught:
        ScanReader(folder)
    assert caught.value.code == "unreadable"


def test_capacity_bounds_what_a_file_can_hold(tmp_path: Path) -> None:
    zeros = bytes(1 << 20)
    plain, packed = write(tmp_path / "plain", zeros), write(tmp_path / "packed", gzip.compress(zeros, 9))
    with ScanReader(plain) as stream:
        assert stream.capacity == len(zeros)
    with ScanReader(packed) as stream:
        assert stream.capacity >= len(zeros)


def test_finishing_compares_the_checksum_of_a_file_read_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", flipped(GZ, -8))
    with ScanReader(path) as stream:
        assert stream.read(100) == TEXT[:100]
        with pytest.raises(UnreadableScanError, match="CRC"):
            stream.finish()


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.nii.gz"
    os.mkfifo(path)
    with pytest.raises(UnreadableScanError) as caught:
        ScanReader(path)
    assert caught.value.code == "unreadable"
