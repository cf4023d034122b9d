"""Damaged files of every kind: only scan errors come out, nothing hangs, nothing takes the memory.

Small sound files are damaged at random, header fields by extreme and random values and streams by cut, flipped,
repeated and inserted bytes. The same cases are drawn in every run.
"""

import gzip
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import LAS
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ScanError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.nifti import NiftiScan, read_nifti

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm clock and the process's peak memory")

CASES = 500
"""In a round: hypothesis remembers what it drew, 5 KB a case, until a round ends."""

QUICK, ROUNDS = range(1), range(1, 41)
SECONDS = 30
"""For one case, which takes milliseconds: more is a hang."""

MEMORY = 100 << 20
"""Bytes that all cases together may add to the process."""

CONTRACTS = (Contract(shape=(5, 4, 3)), Contract(shape=(5, 4, 3), orientation="stored", quarter_turns=1))

EXTREMES: dict[str, tuple[float, ...]] = {
    "b": (0, 1, -1, 2, 127, -128),
    "h": (0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 348, 512, 768, 1024, 1536, 32767, -32768),
    "i": (0, 1, -1, 348, 540, 2**31 - 1, -(2**31)),
    "q": (0, 1, -1, 2, 348, 540, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)),
    "f": (0, -0.0, 1, -1, 1e-45, 1e38, -1e38, 352, 353.5, 1e9, float("nan"), float("inf"), float("-inf")),
    "d": (0, 1, -1, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
}

NIFTI_1 = (
    *((at, "h") for at in (*range(40, 56, 2), 68, 70, 72, 74, 252, 254)),
    *((at, "f") for at in (*range(76, 120, 4), *range(256, 328, 4))),
    *((at, "b") for at in (39, 123, 344, 345, 346, 347, 348)),
    (0, "i"),
    (32, "i"),
)
"""Byte and type of the fields that a reader looks at (nifti1.h)."""

NIFTI_2 = (
    *((at, "q") for at in (*range(16, 80, 8), 168)),
    *((at, "d") for at in (*range(80, 168, 8), *range(176, 192, 8), *range(352, 496, 8))),
    *((at, "h") for at in (12, 14)),
    *((at, "i") for at in (0, 344, 348, 500)),
)
"""The same of the second version (nifti2.h)."""


def sound(kind: type[Any], dtype: str, big: bool = False) -> bytes:
    """A sound file of 6 x 5 x 4 voxels."""
    voxels = (np.arange(120) * 17 % 1400 - 1000).reshape(6, 5, 4).astype(dtype)
    image = kind(voxels, LAS)
    if big:
        image = kind(voxels, LAS, image.header.as_byteswapped(">"))
    return bytes(image.to_bytes())


SOUND = {
    "nifti1": (sound(nib.Nifti1Image, "int16"), NIFTI_1),
    "float": (sound(nib.Nifti1Image, "float32"), NIFTI_1),
    "big endian": (sound(nib.Nifti1Image, "int16", big=True), NIFTI_1),
    "nifti2": (sound(nib.Nifti2Image, "uint16"), NIFTI_2),
    "header of a pair": (bytes(nib.Nifti1Pair(np.zeros((6, 5, 4), np.int16), LAS).header.binaryblock), NIFTI_1),
}

A_ROUND = settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))

Bytes = st.SearchStrategy[bytes]
Damage = Callable[[bytes], bytes]


def put(at: int, new: bytes) -> Damage:
    return lambda data: data[:at] + new + data[at + len(new) :]


def cut(at: int) -> Damage:
    return lambda data: data[: at % (len(data) + 1)]


def insert(at: int, new: bytes) -> Damage:
    return lambda data: data[: at % (len(data) + 1)] + new + data[at % (len(data) + 1) :]


def flip(at: int, bit: int) -> Damage:
    return lambda data: put(at % len(data), bytes([data[at % len(data)] ^ (1 << bit)]))(data) if data else data


def field(fields: tuple[tuple[int, str], ...]) -> st.SearchStrategy[Damage]:
    """One field set to an extreme or random value, in either byte order."""

    def packed(chosen: tuple[int, str]) -> st.SearchStrategy[Damage]:
        at, kind = chosen
        formats = st.sampled_from(("<" + kind, ">" + kind))
        values: Bytes = st.builds(struct.pack, formats, st.sampled_from(EXTREMES[kind]))
        size = struct.calcsize(kind)
        return st.builds(put, st.just(at), values | st.binary(min_size=size, max_size=size))

    return st.sampled_from(fields).flatmap(packed)


ANYWHERE = st.integers(0, 1 << 16)
STREAM = st.one_of(
    st.builds(cut, ANYWHERE),
    st.builds(flip, ANYWHERE, st.integers(0, 7)),
    st.builds(insert, ANYWHERE, st.binary(min_size=1, max_size=40)),
    st.builds(put, st.integers(0, 600), st.binary(min_size=1, max_size=8)),
    st.just(lambda data: data + data),
    st.just(lambda data: data + bytes(2 << 20)),
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """Name and content of a file that was sound."""
    data, fields = SOUND[draw(st.sampled_from(sorted(SOUND)))]
    for damage in draw(st.lists(field(fields) | STREAM, max_size=3)):
        data = damage(data)
    if draw(st.booleans()):
        data = gzip.compress(data, 1, mtime=0)
        for damage in draw(st.lists(STREAM, max_size=2)):
            data = damage(data)
    return draw(st.sampled_from(("scan.nii", "scan.nii.gz", "scan.hdr"))), data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the voxels of a pair, so that a header alone may find some."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "scan.img").write_bytes(SOUND["nifti1"][0][352:])
    return folder


@pytest.fixture
def no_hang() -> Iterator[Callable[[], None]]:
    """Wind up an alarm clock that ends the test unless it is wound up again."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"one file took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Most bytes that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read_in_every_way(path: Path) -> None:
    """What must give an answer or a scan error."""
    for contract in CONTRACTS:
        with suppress(ScanError):
            volume = preprocess(NiftiScan(path), contract).volume
            assert volume.shape == contract.shape
            assert ((volume >= 0) & (volume <= 1)).all()
    for read in (read_nifti, content_sha256):
        with suppress(ScanError):
            read(path)


@pytest.mark.parametrize("rounds", [QUICK, pytest.param(ROUNDS, marks=pytest.mark.slow)])
def test_damaged_files_give_scan_errors_or_volumes(place: Path, no_hang: Callable[[], None], rounds: range) -> None:
    tried = 0
    before = peak()

    def try_one(case: tuple[str, bytes]) -> None:
        nonlocal tried
        tried += 1
        name, data = case
        no_hang()
        path = place / name
        path.write_bytes(data)
        read_in_every_way(path)

    for number in rounds:
        seed(number)(A_ROUND(given(damaged())(try_one)))()
    assert tried >= len(rounds) * CASES
    assert peak() - before < MEMORY
