"""OpenVINO in int8 by NNCF's post-training quantization, with NNCF's defaults."""

from dataclasses import replace
from typing import Any

from bench.fixture import Fixture
from bench.peers import Network
from bench.peers.openvino_runtime import compile_model, import_openvino

NEEDS = ("openvino", "nncf")
PACKAGES = ("openvino", "nncf")


def network(fixture: Fixture, threads: int, *, file: str = "tf2onnx", batch: int = 1) -> Network:
    """Calibrated on the fixture's volumes, once for all groups; the rest computes in OpenVINO's own precision."""
    openvino = import_openvino()
    quantized = fixture.folder / f"nncf_{file}.xml"
    if not quantized.is_file():
        openvino.save_model(_quantize(openvino.Core().read_model(fixture.onnx(file)), fixture), quantized)
    return replace(compile_model(openvino.Core().read_model(quantized), threads, "default", batch), precision="int8")


def _quantize(model: Any, fixture: Fixture) -> Any:
    import nncf

    model.reshape([1, *list(model.inputs[0].partial_shape)[1:]])
    volumes = nncf.Dataset(fixture.calibration(), lambda volume: volume[None, ..., None])
    return nncf.quantize(model, volumes)
