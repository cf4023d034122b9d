"""The process of a contestant, as the comparison starts and calls it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ct3d_edge.system.machine import read_system_file

ROOT = Path(__file__).parents[1]
PROC = Path("/proc")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class PeerFailed(Exception):
    """A contestant that does not run, or no more; its text says why."""


class PeerProcess:
    """A contestant's process.

    Parameters
    ----------
    arguments
        Of `bench.peer_worker`.
    threads
        What libraries that look at the environment shall use.
    """

    def __init__(self, arguments: Sequence[str], threads: int) -> None:
        command = [sys.executable, "-m", "bench.peer_worker", *arguments]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def wait_until_ready(self) -> dict[str, Any]:
        """What opening took and gave.

        Raises
        ------
        Dropped
            If it is left out.
        """
        return dict(self._hear("ready"))

    def run(self, question: int) -> float:
        """One run, in ms.

        Raises
        ------
        Dropped
            If it fails.
        """
        try:
            self._input.write(f"{question}\n")
            self._input.flush()
        except OSError as error:
            raise PeerFailed(self._last_words()) from error
        return float(self._hear("ms"))

    def finish(self) -> int | None:
        """End it; its peak of resident memory in bytes, None where nothing tells."""
        self._input.close()
        peak: int | None = self._hear("peak")
        return peak

    def cpu_seconds(self) -> float:
        """CPU seconds used so far, of all its threads; 0 once it was waited for: then ``os.times`` counts them."""
        stat = (
            None if self._process.returncode is not None else read_system_file(PROC / str(self._process.pid) / "stat")
        )
        # The name, in parentheses, may hold blanks; user and system time are fields 14 and 15 (proc_pid_stat(5)).
        after_name = (stat or "").rpartition(")")[2].split()
        return sum(int(ticks) for ticks in after_name[11:13]) / os.sysconf("SC_CLK_TCK") if after_name else 0.0

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with _ignored_pipe():
                    stream.close()
        self._said.close()

    @property
    def _input(self) -> Any:
        return self._process.stdin

    def _hear(self, what: str) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        message = json.loads(line) if line else {}
        if what not in message:
            raise PeerFailed(message.get("left_out") or self._last_words())
        return message[what]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        return f"its process ended with code {code}" + (f": {lines[-1]}" if lines else "")


@contextmanager
def _ignored_pipe() -> Iterator[None]:
    """Closing a pipe whose reader is gone may fail; nothing is lost by it."""
    try:
        yield
    except BrokenPipeError:
        return


def _environment(threads: int) -> dict[str, str]:
    chosen = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **chosen, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
