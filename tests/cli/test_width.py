"""What commands print fits a terminal of 80 columns."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run

WIDTH = 80


@pytest.fixture
def folder(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    """Two classes of scans with long names, and a broken one."""
    for number in range(6):
        label = ("normal", "abnormal")[number % 2]
        name = f"{number}_{'patient_' * 12}{number}.nii.gz"
        make_scan(name, voxels=(hu + 40 * number).astype(np.int16), folder=tmp_path / "scans" / label)
    return tmp_path / "scans"


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer", "{folder}", "-m", "{model}", "-p", "cpu"],
        ["infer", "{folder}", "-p", "cpu"],
        ["check", "{folder}"],
        ["check", "{scan}"],
        ["inspect", "-m", "{model}"],
        ["verify", "-m", "{model}", "-p", "cpu"],
        ["evaluate", "-m", "{model}", "{folder}", "-p", "cpu", "--resamples", "100"],
        ["doctor"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_standard_output_fits(
    run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, make_model: MakeModel, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.chdir(folder.parent)
    places = {
        "folder": "scans",
        "scan": str(next((folder / "normal").iterdir()).relative_to(folder.parent)),
        "model": str(make_model("model.onnx").relative_to(folder.parent)),
    }
    lines = run(*(argument.format(**places) for argument in arguments)).out.splitlines()
    assert lines
    assert [line for line in lines if len(line) > WIDTH and "pip install" not in line] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_messages_fit_the_terminal_and_stay_in_one_line_elsewhere(folder: Path, make_model: MakeModel) -> None:
    import fcntl
    import pty
    import struct
    import termios

    command = [
        sys.executable,
        "-m",
        "ct3d_edge",
        "infer",
        "absent",
        "--model",
        str(make_model("model.onnx")),
        "-f",
        "csv",
    ]
    command[4] = f"no folder of the archive has this name {'/and'.join(map(str, range(12)))} either, nor this one"
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "TERM")}
    with subprocess.Popen(command, cwd=folder, stdin=inner, stderr=inner, env={**environment, "TERM": "vt100"}):
        os.close(inner)
        shown = b""
        with suppress(OSError):  # EIO at the end
            while block := os.read(outer, 4096):
                shown += block
    os.close(outer)
    lines = shown.decode().splitlines()
    assert 1 < len(lines) <= 3
    assert max(map(len, lines)) <= WIDTH
    assert all(line.startswith("    ") for line in lines[1:])
    piped = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert piped.stderr.split() == " ".join(lines).split()
    assert len(piped.stderr.splitlines()) == 1
