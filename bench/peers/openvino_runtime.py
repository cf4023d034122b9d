"""OpenVINO on the CPU, on any of the ONNX files, in float32 and at fixed shape: its best for one scan at a time."""

from bench.fixture import Fixture
from bench.peers import Network, Volumes

NEEDS = ("openvino",)
PACKAGES = ("openvino",)


def network(fixture: Fixture, threads: int, *, file: str = "tf2onnx", batch: int = 1) -> Network:
    """A compiled model with the latency hint."""
    import sys

    import numpy as np

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino then goes without it
    import openvino

    core = openvino.Core()
    model = core.read_model(fixture.onnx(file))
    model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(volumes: Volumes) -> Volumes:
        return np.array(compiled(volumes[..., np.newaxis])[0])

    return run
