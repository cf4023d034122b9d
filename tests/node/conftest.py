"""Nodes in this process and in processes of their own, and the peers that call them."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import ANY_SCAN, DOWNGRADE_ALL, NODE, MakeModel
from numpy.typing import NDArray

from bench import node_peers
from bench.node_peers import (
    SENDER,
    TIMEOUT_S,
    Archive,
    MissingProgramError,
    NodeProcess,
    find_program,
    free_port,
    wait_for,
)
from ct3d_edge.inference.model import open_model
from ct3d_edge.node.config import Completion, Limits, NodeConfig, Peer
from ct3d_edge.results.journal import read_journal
from ct3d_edge.results.record import ResultRecord

if TYPE_CHECKING:
    from ct3d_edge.node.node import Node

collect_ignore_glob = [] if NODE else ["test_*.py"]

LIMITS = Limits(min_free_bytes=0, network_timeout=5)

StartNode = Callable[..., "RunningNode"]
StartProcess = Callable[..., "NodeProcess"]
MakeSeries = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pynetdicom as a client leaves its socket to the garbage collector where the peer closed the connection first."""
    ignore = "ignore:Exception ignored in. <s:pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(ignore))


def require_program(name: str) -> str:
    """Path of a program of dcmtk or Orthanc; skips the test where it is not installed."""
    try:
        return find_program(name)
    except MissingProgramError as error:
        pytest.skip(str(error))


def send(port: int, files: Sequence[Path], *options: str, title: str = SENDER) -> subprocess.CompletedProcess[str]:
    """Send files with dcmtk's storescu."""
    require_program("storescu")
    return node_peers.send(port, files, *options, title=title)


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

    def __init__(self, node: "Node", spool: Path, opened: ExitStack) -> None:
        self.spool, self.port, self._opened = spool, node.port, opened
        self._stop = threading.Event()
        self._thread = threading.Thread(target=node.run, args=[self._stop])
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        self._opened.close()

    def records(self, count: int) -> list[ResultRecord]:
        return wait_for_records(self.spool, count)


@pytest.fixture
def start_node(tmp_path: Path, make_model: MakeModel) -> Iterator[StartNode]:
    """``start_node(limits=..., completion=..., destinations=...)``: a node that ends with the test."""
    from ct3d_edge.node.node import open_node

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
            opened = stack.enter_context(ExitStack())
            model = opened.enter_context(open_model(path, ANY_SCAN))
            node = opened.enter_context(open_node(config, model, path, model.make_schedule()))
            running = RunningNode(node, spool, opened)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def start_process(tmp_path: Path, make_model: MakeModel) -> Iterator[StartProcess]:
    """``start_process(*options)``: a node in a process that ends with the test."""
    started: list[NodeProcess] = []

    def start(*options: str, spool: Path = tmp_path / "spool") -> NodeProcess:
        started.append(NodeProcess(spool, make_model(), "--stable-for", "0.5", *DOWNGRADE_ALL, *options))
        return started[-1].wait_until_listening()

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def make_series(tmp_path: Path, hu: NDArray[np.int16]) -> MakeSeries:
    """``make_series("1.2.3")``: a folder with a small series, a little different for each UID."""

    import dicom_files as made

    def make(uid: str = "1.2.3") -> Path:
        number = int(uid.rpartition(".")[2])
        return made.write_series(tmp_path / "sent" / uid, (hu + number % 50).astype(np.int16), uid)

    return make


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An archive that has not been started."""
    require_program("storescp")
    made_archive = Archive(tmp_path / "archive")
    yield made_archive
    made_archive.stop()
