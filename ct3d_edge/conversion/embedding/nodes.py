"""Nodes written one after the other: what is put around a network that exists already."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Nodes:
    """Collects nodes and constants under one prefix, so that no name meets one of the network's.

    Parameters
    ----------
    prefix
        In front of every name.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, operator: str, *inputs: str | NDArray[Any], called: str | None = None, **attributes: Any) -> str:
        """Add a node of one output, ``called`` so or by its number; an array among the inputs becomes a constant."""
        name = f"{self._prefix}{operator.lower()}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [called or name], name=name, **attributes))
        return called or name

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"{self._prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
