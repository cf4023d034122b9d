"""A read that hangs, as that of a network drive that is gone: here a pipe into which nobody writes."""

import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.streamed_scan import NUM_BUFFERS, PlanePrefetcher

ROOT = Path(__file__).parents[2]
PLANE = 1 << 16

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[int]:
    """Descriptor of a pipe from which nothing can be read, and whose end never comes."""
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scan.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(20 * PLANE), 1))
    return path


def hang(stream: ScanReader, pipe: int) -> None:
    """From now on, reading this open file is reading the pipe."""
    os.dup2(pipe, stream._file.fileno())


def reader() -> threading.Thread | None:
    """The thread that reads ahead, if there is one."""
    return next((each for each in threading.enumerate() if each.name == "ct3d-edge read ahead"), None)


def test_whoever_stops_early_does_not_wait_for_a_read_that_hangs(file: Path, pipe: int) -> None:
    buffers = np.zeros((NUM_BUFFERS, PLANE), np.uint8)
    stream = ScanReader(file)
    with stream:
        hang(stream, pipe)
        with PlanePrefetcher(stream.fill, 20, stream.finish, buffers):
            pass
    thread = reader()
    assert thread is not None, "it hangs still"
    assert not stream._file.closed, "it is reading"
    with Path(os.devnull).open("rb") as nothing:
        hang(stream, nothing.fileno())  # the drive is back, and has no more to give
        os.write(pipe, b"the last bytes")
        thread.join(60)
    assert not thread.is_alive()
    assert stream._file.closed


def test_a_thread_that_is_done_leaves_the_file_to_its_owner(file: Path) -> None:
    buffers = np.zeros((NUM_BUFFERS, PLANE), np.uint8)
    with ScanReader(file) as stream:
        with PlanePrefetcher(stream.fill, 20, stream.finish, buffers) as ahead:
            assert sum(1 for _ in ahead.planes()) == 20
        still_open = not stream._file.closed
    assert still_open
    assert stream._file.closed


PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np
from ct3d_edge.scan.streamed_scan import NUM_BUFFERS, PlanePrefetcher
from ct3d_edge.scan.gzip_reader import ScanReader

pipe = os.open(sys.argv[2], os.O_RDWR)
with ScanReader(Path(sys.argv[1])) as stream:
    os.dup2(pipe, stream._file.fileno())
    with PlanePrefetcher(stream.fill, 20, stream.finish, np.zeros((NUM_BUFFERS, 65536), np.uint8)) as ahead:
        print("reading", flush=True)
        next(ahead.planes())
"""


def test_ctrl_c_ends_a_program_that_waits_for_a_read_that_hangs(file: Path, pipe: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(file), str(tmp_path / "pipe")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "Fatal" not in said
    assert process.returncode == -signal.SIGINT
