"""From a network's output to the probabilities that `Runner.infer` gives, as ONNX nodes."""

import numpy as np

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.embedding.nodes import Nodes
from ct3d_edge.runtime import PROBABILITIES


def conclude(nodes: Nodes, contract: Contract, output: str) -> None:
    """Add the nodes from a network's output ``(1, outputs)`` to ``probabilities`` ``(classes,)``.

    Activation and temperature are those of the contract, as in ``runtime.to_probabilities``.
    """
    temperature = np.array(contract.temperature, np.float32)
    tempered = contract.temperature != 1
    if contract.activation != "identity" and tempered:
        output = nodes.op("Div", output, temperature)
    if contract.activation == "sigmoid":
        output = nodes.op("Sigmoid", output)
    if contract.activation == "softmax":
        output = nodes.op("Softmax", output, axis=1)
    if contract.outputs == 1:
        output = nodes.op("Concat", nodes.op("Sub", np.array(1, np.float32), output), output, axis=1)
    if contract.activation == "identity" and tempered:
        output = _temper(nodes, output, contract.temperature)
    nodes.op("Reshape", output, np.array([len(contract.labels)]), called=PROBABILITIES)


def _temper(nodes: Nodes, probabilities: str, temperature: float) -> str:
    """``p ** (1 / T)``, against the largest, made to add up to one: see ``calibration.temper``."""
    positive = nodes.op("Relu", probabilities)
    largest = nodes.op("ReduceMax", positive, keepdims=1)
    powers = nodes.op("Pow", nodes.op("Div", positive, largest), np.array(1 / temperature, np.float32))
    return nodes.op("Div", powers, nodes.op("ReduceSum", powers, keepdims=1))
