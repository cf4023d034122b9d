"""Shared libraries that a provider links: which are there, which are missing, which have another version.

The dynamic linker is asked (``ldd``), because it alone knows where it looks. The folders of NVIDIA's Python packages
are added to its path, as ``onnxruntime.preload_dlls`` loads from there.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

WINDOWS = sys.platform == "win32"

LDD_LINE = re.compile(r"^\s*(?P<name>\S+) => (?P<path>not found|\S+)", re.MULTILINE)
"""A line of ``ldd``: a library's name and where it was found."""

COMMAND_TIMEOUT_S = 30
"""Seconds to wait for a program of the system that answers in milliseconds."""


@dataclass(frozen=True)
class LinkedLibraries:
    """A library that another one links.

    Parameters
    ----------
    name
        With its version, e.g. ``libcublas.so.13``.
    path
        Where the dynamic linker finds it, None if it does not.
    others
        Files of the same library in other versions that are on this machine; looked for only if it is missing.
    """

    name: str
    path: str | None
    others: tuple[str, ...] = ()


def linked_libraries(library: Path) -> list[LinkedLibraries]:
    """What a library links, directly or through others, sorted by name; empty where no ``ldd`` answers."""
    path = os.pathsep.join((*map(str, nvidia_package_dirs()), *_search_path()))
    try:
        output = _run_command(["ldd", str(library)], {**os.environ, "LD_LIBRARY_PATH": path})
    except (OSError, subprocess.SubprocessError):  # another operating system, a container without it
        return []
    found = {match["name"]: match["path"] for match in LDD_LINE.finditer(output)}
    return [
        LinkedLibraries(name, None, find_other_versions(name)) if path == "not found" else LinkedLibraries(name, path)
        for name, path in sorted(found.items())
    ]


def find_other_versions(name: str) -> tuple[str, ...]:
    """Files of the library ``name`` with another version, in every folder that is searched for libraries."""
    stem = name.partition(".so")[0] + ".so"
    there: set[str] = set()
    for folder in (*nvidia_package_dirs(), *map(Path, _search_path())):
        there.update(str(path) for path in folder.glob(f"{stem}.*") if path.name != name)
    there.update(path for path in _system_libraries() if Path(path).name.startswith(stem + "."))
    return tuple(sorted(path for path in there if Path(path).name != name))


def nvidia_package_dirs() -> list[Path]:
    """Folders into which NVIDIA's Python packages put libraries."""
    pattern = "*/bin" if WINDOWS else "*/lib"
    folders = [folder for package in find_package_dirs("nvidia") for folder in sorted(package.glob(pattern))]
    return [*folders, *find_package_dirs("tensorrt_libs")]


def find_package_dirs(package: str) -> list[Path]:
    """Folders of an installed Python package; none if it is not installed."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # something half-installed by that name
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def find_first_files(folders: Iterable[Path], names: Iterable[str]) -> Iterator[Path]:
    """For each name the first file of it in the folders; names without one are left out."""
    searched = list(folders)
    for name in names:
        yield from [path for folder in searched if (path := folder / name).is_file()][:1]


def _search_path() -> list[str]:
    return [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]


def _system_libraries() -> list[str]:
    """Paths in the dynamic linker's own cache."""
    try:
        output = _run_command(
            ["ldconfig", "-p"], {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.rpartition(" => ")[2].strip() for line in output.splitlines() if " => " in line]


def _run_command(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        env={**environment, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return done.stdout
