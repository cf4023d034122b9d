"""Files of every form, written by the commands that users type, each in a process of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PLAIN = "none"
"""The form that the others are made from and compared with: the file as tf2onnx wrote it."""

FORMS: dict[str, tuple[str, ...]] = {
    PLAIN: ("--optimize", "none"),
    "exact": ("--optimize", "exact"),
    "fast": ("--optimize", "fast"),
    "small": ("--optimize", "small"),
    "openvino": ("--optimize", "fast", "--target", "openvino"),
    "no-conv3d": ("--optimize", "fast", "--target", "no-conv3d"),
    "fp16 weights": ("--optimize", "fast", "--weight-dtype", "fp16"),
    "int8": ("--optimize", "fast", "--precision", "int8"),
}
"""Form to options of `export` and `optimize`."""

COMMAND = "import bench.zoo.sequences; from ct3d_edge.cli.app import main; main()"
"""`ct3d-edge` in a process that knows the layers of the zoo, as a user's own layers must be imported too."""


@dataclass(frozen=True)
class WrittenForm:
    """What a command did.

    Parameters
    ----------
    exit_code
        Of the command.
    error
        Its last line on standard error, if it failed; else empty.
    """

    exit_code: int
    error: str


def write_forms(folder: Path, forms: tuple[str, ...]) -> dict[str, WrittenForm]:
    """Write ``FORM.onnx`` of ``network.keras`` for each form; without the plain one there are no others."""
    done = {PLAIN: _run("export", folder / "network.keras", folder, PLAIN)}
    if done[PLAIN].exit_code == 0:
        plain = folder / f"{PLAIN}.onnx"
        done |= {form: _run("optimize", plain, folder, form) for form in forms if form != PLAIN}
    return done


def _run(command: str, model: Path, folder: Path, form: str) -> WrittenForm:
    program = [sys.executable, "-c", COMMAND if command == "export" else COMMAND.partition("; ")[2]]
    options = ["--model", str(model), "--out", str(folder / f"{form}.onnx"), *FORMS[form]]
    done = subprocess.run([*program, command, *options], capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    return WrittenForm(done.returncode, lines[-1] if done.returncode and lines else "")
