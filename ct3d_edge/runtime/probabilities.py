"""From what a network gives to a probability of each class."""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.calibration import temper
from ct3d_edge.contract import Contract


def to_probabilities(output: NDArray[np.float32], contract: Contract) -> NDArray[np.float64]:
    """Apply what the contract says is still missing, and its temperature, and give every class its column.

    Parameters
    ----------
    output
        ``(N, contract.outputs)`` network output.

    Returns
    -------
    ndarray
        ``(N, len(contract.labels))`` float64. NaN stays NaN.
    """
    values = output.astype(np.float64)
    if contract.activation == "sigmoid":
        values = 1 / (1 + np.exp(-np.clip(values / contract.temperature, -700, 700)))
    if contract.activation == "softmax":
        powers = np.exp((values - values.max(axis=1, keepdims=True)) / contract.temperature)
        values = powers / powers.sum(axis=1, keepdims=True)
    columns = np.hstack([1 - values, values]) if contract.outputs == 1 else values
    return temper(columns, contract.temperature) if contract.activation == "identity" else columns
