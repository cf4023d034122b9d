"""ONNX Runtime in int8 by its own `quantize_static`, calibrated on the fixture's volumes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.fixture import Fixture
from bench.peers import Network, onnx_plain

NEEDS = ("onnxruntime",)
PACKAGES = onnx_plain.PACKAGES


def network(fixture: Fixture, threads: int, *, file: str = "tf2onnx", advised: bool = False) -> Network:
    """`quantize_static` after its preprocessing: its defaults, or what its documentation advises for this CPU."""
    quantized = f"ort_int8_{'advised_' if advised else ''}{file}"
    if not (fixture.folder / f"{quantized}.onnx").is_file():
        _quantize(
            fixture.onnx(file), fixture.folder / f"{quantized}.onnx", fixture, advised_settings() if advised else {}
        )
    return onnx_plain.network(fixture, threads, file=quantized)


def advised_settings() -> dict[str, Any]:
    """By the docstring of `quantize_static`: unsigned activations, and seven bits only without VNNI."""
    from onnxruntime.quantization import QuantType

    from ct3d_edge.system.machine import detect_cpu_features

    vnni = (detect_cpu_features() or {}).get("VNNI", False)
    return {"activation_type": QuantType.QUInt8, "per_channel": True, "reduce_range": not vnni}


def _quantize(model: Path, out: Path, fixture: Fixture, settings: Mapping[str, Any]) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(model).graph.input[0].name

    class Volumes(CalibrationDataReader):  # type: ignore[misc]  # published without types
        def __init__(self) -> None:
            self._volumes = iter(fixture.calibration())

        def get_next(self) -> dict[str, Any] | None:
            volume = next(self._volumes, None)
            return None if volume is None else {name: volume[None, ..., None]}

    prepared = out.with_suffix(".prepared")
    quant_pre_process(model, prepared)
    quantize_static(prepared, out, Volumes(), **settings)
