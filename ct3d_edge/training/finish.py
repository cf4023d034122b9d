"""The end of a run: temperature and threshold from its validation scans, and statistics of its training scans."""

from pathlib import Path

import keras

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.quality_control.reference_stats import record
from ct3d_edge.temperature_scaling import Rule, calibrate, temperature_warnings
from ct3d_edge.training.batches import Material, Order

WARNING = "WARNING: {}"
UNCALIBRATED = "not calibrated: the temperature is 1, the threshold 0.5"


def calibrated(network: keras.Model, material: Material, contract: Contract) -> tuple[Contract, str]:
    """Fit the contract's temperature and threshold to what a network says of the validation scans.

    Returns
    -------
    tuple
        The contract, unchanged if the network gives all scans the same score, and a sentence on what was done.
    """
    scores = network.predict(material.batches(material.validation), verbose=0)[:, 0]
    truth = material.arrays.labels[list(material.validation.rows)]
    try:
        fitted = calibrate(contract, scores, truth, Rule())
    except DatasetError as error:
        return contract, f"{UNCALIBRATED}. {error}"
    said = f"temperature {fitted.temperature:.3g}, threshold {fitted.threshold:.3g} ({Rule()})"
    warnings = temperature_warnings(fitted.temperature, len(truth))
    return fitted, "\n".join(
        [f"calibrated on the {len(truth)} validation scans: {said}", *map(WARNING.format, warnings)]
    )


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
