"""ONNX Runtime on two threads of the CPU, without anything of this project around it."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

PACKAGES = ("ct3d-edge", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu")
THREADS = 2


def open_session(data: bytes, *, profile: str | None = None, threads: int = THREADS) -> ort.InferenceSession:
    """On the CPU provider, so many threads within an operator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run_session(running: ort.InferenceSession, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Output of a batch."""
    return np.asarray(running.run(None, {running.get_inputs()[0].name: batch})[0])


def parse_arguments(usage: str, rounds: int) -> tuple[Path, int]:
    """The model file of the command line, and its number of rounds or so many."""
    if len(sys.argv) < 2:
        raise SystemExit(usage)
    return Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else rounds
