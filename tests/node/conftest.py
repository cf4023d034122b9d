"""Nodes in this process and in processes of their own, and the peers that call them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import ANY_SCAN, DOWNGRADE_ALL, MakeModel
from numpy.typing import NDArray

pytest.importorskip("pynetdicom", reason="the extra 'node' is not installed")
pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
import dicom_files as made

from ct3d_edge.inference.model import open_model
from ct3d_edge.node.config import Completion, Limits, NodeConfig, Peer
from ct3d_edge.node.node import Node, open_node
from ct3d_edge.results.journal import read_journal
from ct3d_edge.results.record import ResultRecord

ROOT = Path(__file__).parents[2]
MAIN = "from ct3d_edge.cli.app import main; main()"
TIMEOUT_S = 60.0
SENDER = "SENDER"
LIMITS = Limits(min_free_bytes=0, network_timeout=5)

StartNode = Callable[..., "RunningNode"]
StartProcess = Callable[..., "NodeProcess"]
MakeSeries = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pynetdicom as a client leaves its socket to the garbage collector where the peer closed the connection first."""
    ignore = "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(ignore))


def program(name: str) -> str:
    """Path of a program of dcmtk or Orthanc; skips the test where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"needs {name}: apt-get install dcmtk orthanc")
    return found


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


def send(port: int, files: Sequence[Path], *options: str, title: str = SENDER) -> subprocess.CompletedProcess[str]:
    """Send files with dcmtk's storescu."""
    command = [program("storescu"), *options, "-aet", title, "-aec", "CT3D-EDGE", "127.0.0.1", str(port)]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def read_records(spool: Path) -> list[ResultRecord]:
    """Records of a node, those that are complete so far."""
    path = spool / "results.jsonl"
    return list(read_journal(path)) if path.exists() else []


def wait_for_records(spool: Path, count: int) -> list[ResultRecord]:
    """Wait for that many records."""
    wait_for(lambda: len(read_records(spool)) >= count, f"{count} records")
    return read_records(spool)


class RunningNode:
    """A node in a thread of this process."""

    def __init__(self, node: Node, spool: Path) -> None:
        self.spool, self.port = spool, node.port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=node.run, args=[self._stop])
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    def records(self, count: int) -> list[ResultRecord]:
        return wait_for_records(self.spool, count)


@pytest.fixture
def start_node(tmp_path: Path, make_model: MakeModel) -> Iterator[StartNode]:
    """``start_node(limits=..., completion=..., destinations=...)``: a node that ends with the test."""
    with ExitStack() as stack:

        def start(spool: Path = tmp_path / "spool", **changes: object) -> RunningNode:
            config = NodeConfig(
                spool,
                (Peer(SENDER, "127.0.0.1"),),
                port=free_port(),
                completion=Completion(stable_for=0.5),
                limits=LIMITS,
            )
            config, path = replace(config, **changes), make_model()  # type: ignore[arg-type]
            model = stack.enter_context(open_model(path, ANY_SCAN))
            opened = stack.enter_context(open_node(config, model, path, model.make_schedule()))
            running = RunningNode(opened, spool)
            stack.callback(running.stop)
            return running

        yield start


class NodeProcess:
    """``ct3d-edge listen`` in a process of its own."""

    def __init__(self, spool: Path, model: Path, *options: str) -> None:
        self.spool, self.port, self.log = spool, free_port(), spool.parent / f"{spool.name}.log"
        self._command = [
            *(sys.executable, "-W", "error", "-c", MAIN, "listen", "--spool", str(spool)),
            *("--peer", f"{SENDER}@127.0.0.1", "--port", str(self.port), "-m", str(model), "-p", "cpu"),
            *("--stable-for", "0.5", "--min-free", "1KB", *DOWNGRADE_ALL, *options),
        ]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            return subprocess.Popen(self._command, env=environment, stderr=log, stdout=log, text=True)

    def wait_until_listening(self) -> "NodeProcess":
        def accepts() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(accepts, "the node listens")
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def restart(self) -> "NodeProcess":
        self.process = self._start()
        return self

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)

    def records(self, count: int) -> list[ResultRecord]:
        return wait_for_records(self.spool, count)


@pytest.fixture
def start_process(tmp_path: Path, make_model: MakeModel) -> Iterator[StartProcess]:
    """``start_process(*options)``: a node in a process that ends with the test."""
    started: list[NodeProcess] = []

    def start(*options: str, spool: Path = tmp_path / "spool") -> NodeProcess:
        started.append(NodeProcess(spool, make_model(), *options))
        return started[-1].wait_until_listening()

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def make_series(tmp_path: Path, hu: NDArray[np.int16]) -> MakeSeries:
    """``make_series("1.2.3")``: a folder with a small series, a little different for each UID."""

    def make(uid: str = "1.2.3") -> Path:
        number = int(uid.rpartition(".")[2])
        return made.write_series(tmp_path / "sent" / uid, (hu + number % 50).astype(np.int16), uid)

    return make


class Archive:
    """dcmtk's storescp, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> Peer:
        return Peer("ARCHIVE", "127.0.0.1", self.port)

    @property
    def reports(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def start(self) -> "Archive":
        command = [program("storescp"), "-aet", "ARCHIVE", "-od", str(self.folder), "-uf", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_S)

    def wait_for_reports(self, count: int) -> list[Path]:
        wait_for(lambda: len(self.reports) >= count, f"{count} reports")
        time.sleep(0.2)  # the last one may still be written
        return self.reports


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An archive that has not been started."""
    made_archive = Archive(tmp_path / "archive")
    yield made_archive
    made_archive.stop()
