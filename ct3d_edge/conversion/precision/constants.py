"""Constants of a graph by their names, to read and to replace."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


class Constants:
    """Initializers of a graph, which is changed in place."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in proto.graph.initializer}

    def get(self, name: str) -> NDArray[Any] | None:
        """The value; None if a node computes it."""
        tensor = self._tensors.get(name)
        return None if tensor is None else np.asarray(onnx.numpy_helper.to_array(tensor))

    def put(self, name: str, value: NDArray[Any]) -> None:
        """Replace the value."""
        self._tensors[name].CopyFrom(onnx.numpy_helper.from_array(value, name))
