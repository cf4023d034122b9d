"""ONNX Runtime's static quantisation: float32 graphs to 8-bit ones in QDQ form."""

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ct3d_edge.errors import Ct3dError, ModelError


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # published without types
    """Network inputs, one at a time, in the form that ONNX Runtime asks for them."""

    def __init__(self, name: str, batches: Iterable[NDArray[np.float32]]) -> None:
        self._name = name
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def quantize(
    proto: onnx.ModelProto,
    batches: Iterable[NDArray[np.float32]],
    *,
    exclude: Collection[str],
    symmetric: bool,
    seven_bits: bool,
) -> onnx.ModelProto:
    """Quantise weights per channel and activations by the lowest and highest value seen.

    Extremes are kept, not tensors, so that memory does not grow with the number of volumes.

    Parameters
    ----------
    proto
        A float32 graph, shapes known; it is not changed.
    batches
        Network inputs with their batch axis.
    exclude
        Names of nodes that stay float32.
    symmetric
        Whether zero is zero in integers too, as GPUs want it; else activations are unsigned.
    seven_bits
        Whether weights use half their range: processors without VNNI add pairs of products in 16 bits.

    Raises
    ------
    ModelError
        ONNX Runtime cannot quantise the graph.
    """
    reader = _Reader(proto.graph.input[0].name, batches)
    with tempfile.TemporaryDirectory() as place, _quiet():
        given, made = Path(place, "float.onnx"), Path(place, "integers.onnx")
        onnx.save(proto, given)
        try:
            quantize_static(
                given,
                made,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=seven_bits,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(exclude),
                extra_options={"ActivationSymmetric": symmetric, "QDQKeepRemovableActivations": True},
            )
        except Ct3dError:
            raise
        except Exception as error:  # ONNX Runtime's own come straight from Exception
            raise ModelError(f"ONNX Runtime cannot quantise this network: {error}") from error
        return onnx.load(made)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its advice to prepare the graph first, which the passes have done."""
    root: Any = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
