"""Nothing leaves the machine, and nothing is written but what was asked for (docs/security.md)."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from networks import KERAS, tiny_network
from numpy.typing import NDArray
from traced import COMMAND, ROOT, Traced, trace

SESSION = """
import sys, time
import ct3d_edge
with ct3d_edge.load_model(sys.argv[1], provider="cpu") as model:
    print(model.predict(sys.argv[2]).prediction.label)
time.sleep(float(sys.argv[3]))
"""
"""What a program does that uses the library, and goes on living."""

LATER = 14
"""Seconds. ONNX Runtime 1.31 looks up its host about ten after the first session."""


AT_HOME = ("home/.cache/matplotlib", "home/.config/matplotlib", "home/.keras/")
"""What matplotlib and Keras keep in the user's home: a list of fonts, an empty folder, a backend's name."""

WITH_TELEMETRY = "0"
"""What a user may have set; it is not respected."""


@pytest.fixture
def folder(make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path) -> Path:
    """A place with a model, eight scans in two classes, and nothing else."""
    for number in range(8):
        place = tmp_path / "scans" / ("normal" if number % 2 else "abnormal")
        make_scan(f"{number}.nii.gz", voxels=(hu + 30 * number).astype(np.int16), folder=place)
    make_model("model.onnx")
    return tmp_path


def ours(folder: Path, traced: Traced) -> set[str]:
    """What was made, as paths below the folder; temporary files, of which none is left, do not count."""
    temporary = (str(folder / "tmp"), "/dev/shm/sem.")  # noqa: S108  # semaphores of worker processes
    passing = {path for path in traced.made if path.startswith(temporary)}
    assert not [path for path in passing if Path(path).exists() and path != str(folder / "tmp")]
    return {os.path.relpath(path, folder) for path in traced.made - passing}


def settled(paths: set[str]) -> set[str]:
    """Without what stands for a file while it is written, or holds its lock: all gone in the end."""
    passing = (".lock", ".journal", ".started")
    return {path for path in paths if not Path(path).name.startswith(".ct3d-") and not path.endswith(passing)}


def assert_silent(traced: Traced) -> None:
    assert traced.inet == ()
    assert traced.resolved == ()


def test_the_tracer_sees_files_sockets_and_names(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, socket, subprocess, sys, tempfile\n"
        "pathlib.Path('a').mkdir(); pathlib.Path('a/b').write_text(''); os.rename('a/b', 'c')\n"
        "tempfile.TemporaryFile().close()\n"
        "subprocess.run([sys.executable, '-c', 'open(\"d\", \"w\").close()'])\n"
        "try: socket.getaddrinfo('nobody.invalid', 80)\n"
        "except OSError: pass\n"
        "socket.socket().close()\n"
    )
    traced = trace([sys.executable, "-c", program], tmp_path)
    assert traced.code == 0, traced.err
    assert {"a", "a/b", "c", "d"} <= ours(tmp_path, traced)
    assert traced.inet
    assert traced.resolved


INFER = ("infer", "scans", "-m", "model.onnx", "-p", "cpu", "-o", "results.jsonl", "--montage", "montage.png")
SILENT = {
    "infer": ((*INFER, "--report", "r.html"), {"results.jsonl", "montage.png", "r.html"}),
    "check": (("check", "scans"), set()),
    "job": (("job", "--in", "scans", "--out", "results", "-m", "model.onnx", "--report"), {"results"}),
    "verify": (("verify", "-m", "model.onnx", "-p", "cpu", "--run-report", "receipt.json"), {"receipt.json"}),
    "bench": (
        ("bench", "-m", "model.onnx", "-p", "cpu", "--input", "scans", "-n", "2", "--resources", "--out", "b.json"),
        {"b.json"},
    ),
    "optimize": (("optimize", "-m", "model.onnx", "-o", "fast.onnx", "--parity-data", "scans"), {"fast.onnx"}),
    "doctor": (("doctor",), set()),
    "tune": (
        ("tune", "-m", "model.onnx", "--rounds", "3", "--parity-data", "scans"),
        {"model.tuned.json", "model.tuned.onnx"},
    ),
    "preprocess": (("preprocess", "scans", "-m", "model.onnx", "--out", "made"), {"made"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(SILENT))
def test_a_command_writes_what_it_was_told_and_asks_nobody(folder: Path, command: str) -> None:
    arguments, told = SILENT[command]
    traced = trace([*COMMAND, *arguments], folder, ORT_DISABLE_TELEMETRY=WITH_TELEMETRY)
    assert traced.code in (0, 1), traced.err
    assert_silent(traced)
    made = settled(ours(folder, traced))
    assert {path.partition("/")[0] for path in made} <= told
    assert {path.name for path in folder.iterdir()} <= {"scans", "model.onnx", "home", "tmp", *told}
    assert not list((folder / "home").iterdir())


@pytest.mark.slow
def test_evaluate_and_export_leave_at_home_what_matplotlib_and_keras_keep_there(folder: Path) -> None:
    if not KERAS:
        pytest.skip("needs the extra 'train'")
    tiny_network().save(folder / "tiny.keras")
    evaluate = ("evaluate", "scans", "-m", "model.onnx", "-p", "cpu", "--resamples", "100", "--out", "out")
    for command in evaluate, ("export", "-m", "tiny.keras", "--out", "tiny.onnx", "--parity-data", "scans"):
        traced = trace([*COMMAND, *command], folder)
        assert traced.code == 0, traced.err
        assert_silent(traced)
        made = settled(ours(folder, traced))
        parents = {"home/.cache", "home/.config"}
        assert [path for path in made - parents if not f"{path}/".startswith(("out/", "tiny.onnx/", *AT_HOME))] == []


@pytest.mark.slow
def test_a_program_that_lives_on_asks_nobody_later(folder: Path) -> None:
    """ONNX Runtime would look up its host some seconds after the session was opened."""
    scan = folder / "scans" / "normal" / "1.nii.gz"
    traced = trace([sys.executable, "-c", SESSION, "model.onnx", scan, LATER], folder)
    assert traced.code == 0, traced.err
    assert_silent(traced)
    assert ours(folder, traced) == set()


@pytest.mark.slow
def test_without_a_home_to_write_to_nothing_is_said_about_it(folder: Path) -> None:
    traced = trace([*COMMAND, *SILENT["verify"][0]], folder, HOME=os.devnull)
    assert traced.code == 0
    assert "\x1b[" not in traced.err
    assert "elemetry" not in traced.err
    assert settled(ours(folder, traced)) == {"receipt.json"}


def value_after(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport os\nprint(os.environ.get('ORT_DISABLE_TELEMETRY'))"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("program", ["import ct3d_edge", "import ct3d_edge.session.session", "import bench.sessions"])
@pytest.mark.parametrize("before", ["", "0"])
def test_telemetry_is_off_whatever_was_set(program: str, before: str) -> None:
    assert value_after(program, ORT_DISABLE_TELEMETRY=before) == "1"


def test_onnx_runtime_imported_before_is_told_of() -> None:
    program = "import onnxruntime\nimport ct3d_edge"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for own, told in ({}, sys.platform == "linux"), ({"ORT_DISABLE_TELEMETRY": "1"}, False):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, **own, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("RuntimeWarning: onnxruntime was imported before ct3d_edge" in done.stderr) is told


def test_programs_of_the_documentation_switch_it_off_before_the_import() -> None:
    """Whatever imports ONNX Runtime lies in a package that has it off, or sets the variable itself."""
    for path in (*ROOT.glob("docs/**/*.py"), *ROOT.glob("export/**/*.py")):
        source = path.read_text()
        imports = [line for node in ast.walk(ast.parse(source)) if (line := onnx_runtime_at(node))]
        if imports and "import ct3d_edge" not in source and "from ct3d_edge" not in source:
            assert 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in "\n".join(source.splitlines()[: min(imports)]), path


def onnx_runtime_at(node: ast.AST) -> int | None:
    if isinstance(node, ast.Import):
        return node.lineno if any(alias.name.split(".")[0] == "onnxruntime" for alias in node.names) else None
    if isinstance(node, ast.ImportFrom):
        return node.lineno if (node.module or "").split(".")[0] == "onnxruntime" else None
    return None
