"""Count what one ``ct3d-edge infer`` runs through: files of the package, frames from main to the network.

python tools/count_path.py [SCAN]

Without a scan a phantom is made. Prints the files in which a function runs (loading a module is none), then the frames
in ``ct3d_edge`` between ``main`` and ``InferenceSession.run``, outermost first.
"""

import contextlib
import importlib
import inspect
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(ROOT / "ct3d_edge")
sys.path.insert(0, str(ROOT))


def count(scan: Path) -> tuple[list[str], list[str]]:
    """Files whose functions run and frames on the way to the network, for one scan on the CPU."""
    main = importlib.import_module("ct3d_edge.cli.app").main  # first: it switches off ONNX Runtime's telemetry
    ort = importlib.import_module("onnxruntime")

    files: set[str] = set()
    frames: list[str] = []
    run = ort.InferenceSession.run

    def record_file(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(PACKAGE):
            file = str(Path(code.co_filename).relative_to(ROOT))
            if file not in files and not _is_loading(frame):
                files.add(file)

    def record_frames(session: Any, *arguments: Any, **settings: Any) -> Any:
        stack = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
        frames[:] = [f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno} {frame.name}" for frame in stack]
        return run(session, *arguments, **settings)

    ort.InferenceSession.run = record_frames
    sys.argv = ["ct3d-edge", "infer", str(scan), "--provider", "cpu", "--quiet"]
    threading.setprofile(record_file)
    sys.setprofile(record_file)
    with contextlib.suppress(SystemExit):
        main()
    sys.setprofile(None)
    return sorted(files), frames


def _is_loading(frame: FrameType | None) -> bool:
    """Whether a frame runs because a module of the package is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


def save_phantom(path: Path) -> None:
    """Write a small phantom in a process of its own, so that its modules do not count."""
    import subprocess

    program = (
        "import sys; from pathlib import Path; from ct3d_edge.datasets.phantoms.phantom import "
        "make_phantom, save_scan\n"
        "save_scan(make_phantom(1, abnormal=True, shape=(128, 128, 32)), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, cwd=ROOT)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(sys.argv[1]) if sys.argv[1:] else Path(folder, "phantom.nii.gz")
        if not sys.argv[1:]:
            save_phantom(scan)
        files, frames = count(scan)
    print(*files, f"{len(files)} files run through", "", *frames, f"{len(frames)} frames from main", sep="\n")
