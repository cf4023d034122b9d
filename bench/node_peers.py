"""A node in a process of its own and the programs of dcmtk that call it: for tests and measurements of `listen`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ct3d_edge.node.config import Peer

ROOT = Path(__file__).parents[1]
MAIN = "from ct3d_edge.cli.app import main; main()"
WARNINGS = ("-W", "error", "-W", "ignore::ResourceWarning")
"""All are errors but those of pynetdicom, which does not close the socket of a connection that fails."""

TIMEOUT_S = 60.0
SENDER = "SENDER"


class MissingProgramError(Exception):
    """A program of dcmtk or Orthanc is not installed."""


def find_program(name: str) -> str:
    """Path of a program.

    Raises
    ------
    MissingProgramError
        If it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise MissingProgramError(f"needs {name}: apt-get install dcmtk orthanc")
    return found


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts_connections(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until something is true.

    Raises
    ------
    TimeoutError
        If it does not become true.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


def send(
    port: int, files: Sequence[Path], *options: str, title: str = SENDER, called: str = "CT3D-EDGE"
) -> subprocess.CompletedProcess[str]:
    """Send files with dcmtk's storescu."""
    command = [find_program("storescu"), *options, "-aet", title, "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


class NodeProcess:
    """``ct3d-edge listen`` in a process of its own; its output is beside its spool."""

    def __init__(self, spool: Path, model: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        self.spool, self.port, self.log = spool, free_port(), spool.parent / f"{spool.name}.log"
        self._command = [
            *(*prefix, sys.executable, *WARNINGS, "-c", MAIN, "listen", "--spool", str(spool)),
            *("--peer", f"{SENDER}@127.0.0.1", "--port", str(self.port), "-m", str(model), "-p", "cpu"),
            *(() if "--min-free" in options else ("--min-free", "1KB")),
            *options,
        ]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            return subprocess.Popen(self._command, env=environment, stderr=log, stdout=log)

    def wait_until_listening(self) -> "NodeProcess":
        """Wait until it accepts connections."""

        def accepts() -> bool:
            if self.process.poll() is not None:
                raise ChildProcessError(self.log.read_text())
            return accepts_connections(self.port)

        wait_for(accepts, "the node listens")
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def restart(self) -> "NodeProcess":
        """Start it again."""
        self.process = self._start()
        return self

    def interrupt(self) -> int:
        """End it as a service manager does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


class Archive:
    """dcmtk's storescp, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> Peer:
        """As a destination of a node."""
        return Peer("ARCHIVE", "127.0.0.1", self.port)

    @property
    def reports(self) -> list[Path]:
        """What it holds; a file that is still being written is among it."""
        return sorted(self.folder.iterdir())

    def start(self) -> "Archive":
        """Accept instances until it is stopped."""
        command = [find_program("storescp"), "-aet", "ARCHIVE", "-od", str(self.folder), "-uf", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def stop(self) -> None:
        """Go away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_S)
            self._process = None

    def wait_for_reports(self, count: int, settle_s: float = 0.2) -> list[Path]:
        """Wait until it holds that many, and a little longer, because the last one may still be written."""
        wait_for(lambda: len(self.reports) >= count, f"{count} reports")
        time.sleep(settle_s)
        return self.reports
