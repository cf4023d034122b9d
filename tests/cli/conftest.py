"""The command line as a user meets it: arguments in, exit code and both streams out."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray
from written import V0_1

from ct3d_edge.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("infer", path)``: the command in this process, through the entry point; so wide that no line is broken."""
    monkeypatch.setenv("COLUMNS", "400")

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["ct3d-edge", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        else:
            code = 0
        streams = capsys.readouterr()
        assert "Traceback" not in streams.err
        return Outcome(code, streams.out, streams.err)

    return call


@pytest.fixture(scope="session")
def optimized_files() -> dict[str, bytes]:
    """Files with a Grad-CAM output that were made in this session, by the SHA-256 of the model they were made from."""
    return {}


@pytest.fixture
def explaining_model(
    run: Run,
    make_model: MakeModel,
    make_scan: MakeScan,
    hu: NDArray[np.int16],
    tmp_path: Path,
    optimized_files: dict[str, bytes],
) -> Path:
    """A tiny model file that explains, which the command makes once in a session, and scans for it in ``proof``."""
    model, out = make_model(), tmp_path / "explains.onnx"
    for number in range(8):
        make_scan(f"{number}.nii.gz", voxels=(hu + 60 * number).astype(np.int16), folder=tmp_path / "proof")
    key = hashlib.sha256(model.read_bytes()).hexdigest()
    if key in optimized_files:
        out.write_bytes(optimized_files[key])
        return out
    outcome = run(
        "optimize", "--model", model, "--out", out, "--with-gradcam-output", "--parity-data", tmp_path / "proof"
    )
    assert outcome.code == 0
    optimized_files[key] = out.read_bytes()
    return out


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files of version 0.1, in which commands run: paths are those that were written down."""
    folder = tmp_path / "old"
    shutil.copytree(V0_1, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def scans(make_scan: MakeScan, tmp_path: Path) -> Path:
    """Folder with two small scans."""
    for name in ("a.nii.gz", "b.nii.gz"):
        make_scan(name, folder=tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def folder(tmp_path: Path, make_scan: MakeScan) -> Path:
    """Two sound scans and a broken one between them."""
    scans = tmp_path / "scans"
    make_scan("a.nii.gz", folder=scans)
    make_scan("c.nii", folder=scans / "deeper")
    (scans / "b.nii.gz").write_bytes(b"")
    return scans
