"""The server as a client meets it: ``ct3d-edge serve`` in a process of its own."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from builders import DOWNGRADE_ALL, MakeModel

MAIN = "from ct3d_edge.cli.app import main; main()"

START_S, STOP_S = 60, 60

collect_ignore_glob = [] if find_spec("uvicorn") and find_spec("httpx") else ["test_*.py"]


@dataclass
class Server:
    """A running server."""

    process: "subprocess.Popen[bytes]"
    url: str
    port: int
    temp: Path
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, f"{text!r} in the log")

    def send(self, data: bytes, timeout: float = 20) -> bytes:
        """What the server answers to raw bytes, until it closes the connection or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while block := connection.recv(65536):
            received += block
    return received


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


Start = Callable[..., Server]


@pytest.fixture(scope="session")
def start_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """``start_process("--model", path)``: a server on a free port; all are ended after the tests."""
    servers: list[Server] = []

    def start(*options: object, temp: Path | None = None) -> Server:
        folder = tmp_path_factory.mktemp("server")
        temp = temp or folder / "temp"
        temp.mkdir(exist_ok=True)
        log_path = folder / "log"
        words = ["serve", "--port", 0, "--temp-dir", temp, "--provider", "cpu", *options]
        with log_path.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-c", MAIN, *map(str, words)], stdout=log, stderr=log)
        pattern = re.compile(r"serving \S+ at (https?)://\S+?:(\d+):")
        wait_until(lambda: bool(pattern.search(log_path.read_text())) or process.poll() is not None, "start", START_S)
        found = pattern.search(log_path.read_text())
        assert found, log_path.read_text()
        port = int(found[2])
        servers.append(Server(process, f"{found[1]}://127.0.0.1:{port}", port, temp, log_path))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def start(start_process: Start, make_model: MakeModel) -> Start:
    """``start("--token-file", path)``: a server of the tiny model, for scans of any kind."""

    def call(*options: object, model: Path | None = None, temp: Path | None = None) -> Server:
        return start_process("--model", model or make_model(), *DOWNGRADE_ALL, *options, temp=temp)

    return call


SHARED: dict[str, Server] = {}


@pytest.fixture
def server(start: Start) -> Server:
    """One server for all tests that do not harm it; it must still be well afterwards."""
    if "server" not in SHARED or SHARED["server"].process.poll() is not None:
        SHARED["server"] = start("--max-upload", "2MB", "--max-files", 40, "--body-timeout", 2, "--model-name", "tiny")
    return SHARED["server"]


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """What two records of one scan have in common."""
    return {name: value for name, value in record.items() if name not in ("timing_ms", "scan")}
