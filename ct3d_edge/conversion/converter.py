"""The converters of a Keras network to ONNX; each is imported when it is used."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import onnx

from ct3d_edge.contract import Contract

if TYPE_CHECKING:
    import keras

Converter = Literal["tf2onnx", "direct"]
"""``"tf2onnx"`` converts TensorFlow's graph, ``"direct"`` what Keras records of its layers; see docs/compiler.md."""

ConvertFn = Callable[["keras.Model", Contract], onnx.ModelProto]


def load_converter(converter: Converter) -> ConvertFn:
    """The function of a converter."""
    if converter == "direct":
        from ct3d_edge.conversion.direct.convert import convert_directly

        return convert_directly
    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx

    return convert_to_onnx
