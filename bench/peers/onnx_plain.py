"""Plain ONNX Runtime: a session with its defaults but for the number of threads."""

from typing import Any

from bench.fixture import Fixture
from bench.peers import Network, Volumes

NEEDS = ("onnxruntime",)
PACKAGES = ("onnxruntime-gpu", "onnxruntime", "tf2onnx")


def network(fixture: Fixture, threads: int, *, file: str = "tf2onnx", provider: str = "CPU") -> Network:
    """The file as tf2onnx wrote it, unless another one is named; ``provider`` as ONNX Runtime begins its name."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    wanted = f"{provider}ExecutionProvider"
    session: Any = ort.InferenceSession(str(fixture.onnx(file)), options, providers=[wanted])
    if wanted not in session.get_providers():
        raise RuntimeError(f"ONNX Runtime does not load its {wanted} here")
    name = session.get_inputs()[0].name

    def run(volumes: Volumes) -> Volumes:
        return np.asarray(session.run(None, {name: volumes[..., np.newaxis]})[0])

    return run
