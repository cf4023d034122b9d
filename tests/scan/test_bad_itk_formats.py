"""MetaImage and NRRD files that are damaged or hostile: each is an error of the scan."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.loader import open_scan

from .test_itk_formats import error_of, stored, write


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 0xFF  # the checksum of zlib (Adler-32), the size in gzip
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("suffix", "compressed", "change", "code"),
    [
        (".mha", False, cut, "truncated"),
        (".mha", True, cut, "truncated"),
        (".mha", True, damage, "bad_checksum"),
        (".nrrd", False, cut, "truncated"),
        (".nrrd", True, cut, "truncated"),
        (".nrrd", True, damage, "corrupt_gzip"),
    ],
)
def test_damaged_voxels_are_an_error(
    tmp_path: Path, suffix: str, compressed: bool, change: Callable[[Path], None], code: str
) -> None:
    path = write(tmp_path / f"scan{suffix}", compressed=compressed)
    change(path)
    assert error_of(path).code == code


def metaimage(*fields: str, voxels: bytes = bytes(250), size: str = "5 5 5", kind: str = "MET_SHORT") -> bytes:
    lines = ("ObjectType = Image", f"DimSize = {size}", f"ElementType = {kind}", *fields, "ElementDataFile = LOCAL\n")
    return "\n".join(lines).encode() + voxels


def nrrd_file(*fields: str, voxels: bytes = bytes(250), sizes: str = "5 5 5", kind: str = "short") -> bytes:
    lines = ("NRRD0004", f"type: {kind}", "dimension: 3", f"sizes: {sizes}", *fields, "\n")
    return "\n".join(lines).encode() + voxels


HUGE = "32000 32000 32000"
HOSTILE = {
    "huge.mha": metaimage("CompressedData = True", size=HUGE, voxels=zlib.compress(bytes(10_000_000))),
    "negative.mha": metaimage(size="-1 5 5"),
    "words.mha": metaimage(size="a b c"),
    "digits.mha": metaimage(size="9" * 5000 + " 5 5"),
    "endless.mha": b"NDims = 3\n" + b"A" * (2 << 20),
    "axes.mha": metaimage("TransformMatrix = 1 0 0"),
    "text.mha": metaimage("BinaryData = False", voxels=b"1 " * 125),
    "scaled.mha": metaimage("ElementToIntensityFunctionSlope = 2"),
    "none.mha": b"\x89PNG",
    "huge.nrrd": nrrd_file("endian: big", "encoding: gz", sizes=HUGE, voxels=gzip.compress(bytes(10_000_000))),
    "sizes.nrrd": nrrd_file("endian: little", "encoding: raw", sizes="5 5 5 5"),
    "axes.nrrd": nrrd_file("endian: big", "encoding: raw", "space: LPS", "space directions: (1,0) (0,1) (1,1)"),
    "bzip2.nrrd": nrrd_file("endian: little", "encoding: bzip2"),
    "order.nrrd": nrrd_file("encoding: raw"),
    "lacking.nrrd": b"NRRD0004\ntype: short\ndimension: 3\nencoding: raw\n\n" + bytes(250),
    "none.nrrd": b"\x89PNG",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_an_error_of_the_scan(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    error = error_of(tmp_path / name)
    assert isinstance(error, UnreadableScanError)
    assert error.code in ("bad_header", "truncated", "too_large")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_any_damage_to_a_header_is_an_error_of_the_scan(tmp_path: Path, suffix: str) -> None:
    good = write(tmp_path / f"scan{suffix}").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / f"bad{suffix}"
    for _ in range(600):
        data = bytearray(good)
        for at in random.integers(0, len(good) - 420, random.integers(1, 4)):
            data[at] = random.integers(256)
        path.write_bytes(data)
        try:
            stored(open_scan(path))
        except (UnreadableScanError, RefusedScanError):
            continue
