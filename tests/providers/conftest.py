"""Shared libraries made up on the spot: what NVIDIA's would answer, on machines that have none."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MakeLibrary = Callable[..., Path]


@pytest.fixture
def make_library(tmp_path: Path) -> MakeLibrary:
    """``make_library("libcuda.so.1", "int cuInit(int flags) { return 0; }", links=[other])`` gives its path."""
    compiler = shutil.which("cc")
    if compiler is None or shutil.which("ldd") is None:
        pytest.skip("needs a C compiler and ldd")

    def make(name: str, source: str = "", links: list[Path] | None = None, folder: Path = tmp_path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        command = [compiler, "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", str(path), f"-Wl,-soname,{name}"]
        extra = ["-x", "none", "-Wl,--no-as-needed", *map(str, links or [])]
        subprocess.run([*command, *extra], input=source, text=True, check=True)
        return path

    return make
