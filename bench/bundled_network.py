"""Restore the Keras network of the bundled model file, whose .keras file is not included.

    python -m bench.bundled_network OUT.keras

The file holds the kernels of its convolutions before their transform for minimal filtering, and its normalisations
folded into the kernels behind them. Of the normalisations the last one is its own and the others do nothing. The result
answers as the file does within 1e-5 of a probability.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.keras_backend import import_keras
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file

Array = NDArray[np.float64]
TAPS = 3
PRODUCTS = 8
"""Of the last convolution along depth: each has a copy of the bias, of which the second is not zero."""


def restore_network(out: Path) -> Path:
    """Write the network as a .keras file."""
    import_keras()
    from keras import layers

    from ct3d_edge.training.network import TUTORIAL

    file = load_model_file(default_model_path())
    parameters = _Parameters(onnx.ModelProto.FromString(file.data))
    network = TUTORIAL.build(*file.contract.shape)
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv3D)]
    for layer, (kernel, bias) in zip(convolutions, parameters.convolutions(), strict=True):
        layer.set_weights([kernel.transpose(2, 3, 4, 1, 0), bias])
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            last = layer.gamma.shape[0] == convolutions[-1].filters
            factor, term = parameters.normalisation() if last else (1.0, 0.0)
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma * 0 + factor, beta * 0 + term, mean * 0, variance * 0 + 1 - layer.epsilon])
    for layer, number in zip((lay for lay in network.layers if isinstance(lay, layers.Dense)), (8, 9), strict=True):
        layer.set_weights(parameters.dense(number))
    network.save(out)
    return out


class _Parameters:
    """Weights of the bundled file as those of the layers that they come from."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._constants = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}

    def _find(self, stem: str, part: str) -> Array:
        """The first constant that a rule made for a node, or the source's own."""
        return next(value for name, value in self._constants.items() if stem in name and part in name)

    def convolutions(self) -> list[tuple[Array, Array]]:
        """Kernels ``(outputs, inputs, 3, 3, 3)`` and biases, in order."""
        planes = self._find("max_pooling3d_16_1", "weights")  # (outputs, taps along depth, 3, 3), one input
        deep, wide = self._find("Conv__57", "kernels"), self._find("Conv__57", "bias").reshape(PRODUCTS, -1)
        outputs = wide.shape[1]
        return [
            (planes[:, None], self._find("max_pooling3d_16_1", "bias")),
            self._filtered_along_all_axes("Conv__45"),
            self._filtered_along_all_axes("Conv__51"),
            (deep.reshape(TAPS, outputs, -1, TAPS, TAPS).transpose(1, 2, 0, 3, 4), wide[1]),
        ]

    def _filtered_along_all_axes(self, stem: str) -> tuple[Array, Array]:
        """Kernel and bias of a layer that is stored as ``(taps along each axis, inputs, outputs)``."""
        bias = self._find(stem, "bias")
        kernel = self._find(stem, "kernels").reshape(TAPS, TAPS, TAPS, -1, len(bias))
        return kernel.transpose(4, 3, 0, 1, 2), bias

    def normalisation(self) -> tuple[Array, Array]:
        """Factor and term of the last one."""
        return self._find("mul_1", "per_channel").reshape(-1), self._find("add_1", "per_channel").reshape(-1)

    def dense(self, number: int) -> list[Any]:
        """Matrix and bias of a dense layer."""
        return [self._find(f"dense_{number}", "Cast"), self._find(f"dense_{number}", "Add")]


if __name__ == "__main__":
    print(restore_network(Path(sys.argv[1])))
