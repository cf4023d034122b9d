"""OpenVINO on the CPU, on any of the ONNX files, at fixed shape: its best for one scan at a time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.fixture import Fixture
from bench.peers import Network, Volumes

NEEDS = ("openvino",)
PACKAGES = ("openvino",)


@dataclass(frozen=True)
class CompiledNetwork:
    """A compiled model, called with network inputs.

    Parameters
    ----------
    compiled
        OpenVINO's.
    precision
        In which it computes: ``fp32``, ``bf16`` or ``int8``.
    """

    compiled: Any
    precision: str

    def __call__(self, volumes: Volumes) -> Volumes:
        """``(N, W, H, D)`` to ``(N, outputs)``."""
        return np.array(self.compiled(volumes[..., np.newaxis])[0])


def network(
    fixture: Fixture, threads: int, *, file: str = "tf2onnx", precision: str = "f32", batch: int = 1
) -> Network:
    """A compiled model with the latency hint; ``default`` is the precision that OpenVINO chooses by itself."""
    model = import_openvino().Core().read_model(fixture.onnx(file))
    compiled = compile_model(model, threads, precision, batch)
    return replace(compiled, precision="int8") if file.endswith("_int8") else compiled


def import_openvino() -> Any:
    """OpenVINO without its telemetry."""
    import sys

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def compile_model(model: Any, threads: int, precision: str, batch: int) -> CompiledNetwork:
    """Compile at a fixed batch."""
    model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision != "default":
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = import_openvino().Core().compile_model(model, "CPU", settings)
    rounded = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return CompiledNetwork(compiled, {"f32": "fp32", "f16": "fp16"}.get(rounded, rounded))
