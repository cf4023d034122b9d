"""A process under strace: which files it made, whether it opened a socket or resolved a name."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from ct3d_edge.cli.app import main; main()")

OPENING = "open,openat,openat2,creat"
MAKING = "mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
STRACE = shutil.which("strace") or "strace"
OPTIONS = ("-f", "--seccomp-bpf", "-qqq", "-y", "-s", "4096", "-e", f"trace=network,{OPENING},{MAKING}")

WRITES = re.compile(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)")
INET = re.compile(r"AF_INET|^listen\(")

IPV6_PROBE = re.compile(r'^(?:socket\(AF_INET6, SOCK_STREAM|bind\(.*sin6_port=htons\(0\).*"::1")')
"""urllib3, which pydicom imports by way of requests where that is installed, looks whether this machine has IPv6: it
binds a socket to the machine's own address and closes it. Nothing is connected to, and nothing sent."""
CALL = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
UNFINISHED, RESUMED = " <unfinished ...>", re.compile(r"^<\.\.\. \w+ resumed>")

NAMES = ("/etc/resolv.conf", "/etc/hosts")
"""Files that the system's resolver reads before it asks anybody."""

NO_FILES = re.compile(r"^/(?:dev/(?!shm/)|proc/|sys/)|^(?:pipe|socket|anon_inode):")
"""Devices and what else is opened for writing without a file being made."""

UNSET = (
    "ORT_DISABLE_TELEMETRY",
    "MPLCONFIGDIR",
    "KERAS_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "CT3D_EDGE_ENGINES",
)


@dataclass(frozen=True)
class Traced:
    """What a process and all that it started did.

    Parameters
    ----------
    made
        Absolute paths that were opened for writing, created, or the target of a renaming or link.
    inet
        Calls with a socket or an address of the Internet's families, but for `IPV6_PROBE`.
    resolved
        Calls that read a file of `NAMES`.
    """

    code: int
    out: str
    err: str
    made: frozenset[str]
    inet: tuple[str, ...]
    resolved: tuple[str, ...]


def trace(command: Sequence[object], folder: Path, **environment: str) -> Traced:
    """Run a command in ``folder`` with the fresh HOME ``folder/home`` and TMPDIR ``folder/tmp``, under strace."""
    _need_strace()
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    log = folder / "strace.log"
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [STRACE, *OPTIONS, "-o", str(log), *map(str, command)],
        cwd=folder,
        env={**kept, **own, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = list(_calls(log.read_text(errors="replace")))
    log.unlink()
    return Traced(
        done.returncode,
        done.stdout,
        done.stderr,
        frozenset(path for call in calls for path in _made(call, folder) if not NO_FILES.search(path)),
        tuple(call for call in calls if INET.search(call) and not IPV6_PROBE.search(call)),
        tuple(call for call in calls if any(f'"{name}"' in call for name in NAMES)),
    )


def _need_strace() -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace (apt-get install strace)")
    tried = subprocess.run([STRACE, "-f", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip().splitlines()[-1]}")


def _calls(log: str) -> Iterator[str]:
    """Whole calls: one that another thread interrupted is put together again."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        if not (found := CALL.match(line)):
            continue
        pid, rest = found["pid"], found["rest"]
        if rest.endswith(UNFINISHED):
            begun[pid] = rest.removesuffix(UNFINISHED)
            continue
        yield RESUMED.sub(lambda _, pid=pid: begun.pop(pid, ""), rest) if RESUMED.match(rest) else rest


def _made(call: str, cwd: Path) -> Iterator[str]:
    """Paths that a successful call made or opened for writing."""
    name, _, given = call.partition("(")
    arguments, _, result = given.rpartition(" = ")
    if result.startswith(("-1", "?")):
        return
    if name in ("open", "openat", "openat2", "creat"):
        if "O_TMPFILE" in arguments:  # never gets a name
            return
        if name == "creat" or WRITES.search(arguments):
            yield result.partition("<")[2].partition(">")[0]
    elif name.startswith(("mkdir", "mknod", "rename", "link", "symlink")):
        place, path = re.findall(r'(?:AT_FDCWD|\d+)?(?:<([^>]*)>, )?"([^"]*)"', arguments)[-1]
        yield os.path.normpath(Path(place or cwd, path))
