"""Which Keras layer is converted to ONNX wrongly: the network is converted as far as each of some layers."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.keras_loader import convert_to_onnx
from ct3d_edge.errors import ModelError
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

ROUNDING = 1e-3
"""Part of a layer's largest magnitude that arithmetic in another order explains."""


def find_faulty_layer(network: keras.Model, contract: Contract, volume: NDArray[np.float32]) -> str:
    """Bisect the layers in their order: the first up to which the network is converted to something else.

    Returns
    -------
    str
        ``layer NAME (kind)``, or an empty text if every part answers alike, or the layers cannot be taken apart.
    """
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    good, bad = -1, len(layers)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _alike(network, layers[middle], contract, volume):
            good = middle
        else:
            bad = middle
    return f"layer {layers[bad].name} ({type(layers[bad]).__name__})" if bad < len(layers) else ""


def _alike(network: keras.Model, layer: Any, contract: Contract, volume: NDArray[np.float32]) -> bool:
    batch = volume.reshape(1, *contract.input_shape)
    try:
        part = keras.Model(network.inputs[0], layer.output)
        proto = convert_to_onnx(part, contract)
    except (ModelError, ValueError, AttributeError):  # a layer with several outputs or uses
        return True
    right = np.asarray(keras.ops.convert_to_numpy(part(batch, training=False)), np.float32)
    ((_, found),) = IntermediateOutputs(proto, [proto.graph.output[0].name]).tensors(batch)
    return bool(np.abs(found - right).max() <= ROUNDING * max(float(np.abs(right).max()), 1.0))
