"""The end of a run: what its training scans were like, for the passports of scans to come."""

from pathlib import Path

import keras

from ct3d_edge.contract import Contract
from ct3d_edge.keras_pooling import with_pooled_features
from ct3d_edge.passport import record
from ct3d_edge.training.batches import Order
from ct3d_edge.training.material import Material


def recorded(
    network: keras.Model, material: Material, contract: Contract, folder: Path
) -> tuple[Contract, tuple[str, ...]]:
    """Add training range and feature statistics to the contract: headers, and one pass over all scans unchanged.

    Returns
    -------
    tuple
        The contract, and a sentence on each of the two.
    """
    pooling = with_pooled_features(network)
    scans = [folder / entry.path for entry in material.arrays.split.train]
    if pooling is None:
        return record(contract, scans, None, None)
    size = material.training.batch_size
    taught, held_out = (
        pooling.predict(material.batches(Order(order.rows, size)), verbose=0)[0]
        for order in (material.training, material.validation)
    )
    return record(contract, scans, taught, held_out)
