"""Programs of other authors that read what is written here: dicom3tools and dcmtk."""

import shutil
import subprocess
from pathlib import Path

import pytest

KNOWN_WARNINGS = ("Unrecognized defined term = <99CT3D>", "needed to build DICOMDIR")
"""`dciodvfy` knows no private code, and series of tests have no date."""


def run_tool(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program; the test is skipped where it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)


def validate(path: Path) -> tuple[str, list[str]]:
    """The name of the object that `dciodvfy` recognises, and its errors and warnings."""
    lines = run_tool("dciodvfy", "-new", path).stderr.splitlines()
    (name,) = (line for line in lines if line and not line.startswith(("Error", "Warning")))
    return name, [
        line for line in lines if line not in ("", name) and not any(known in line for known in KNOWN_WARNINGS)
    ]
