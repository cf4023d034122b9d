"""The end of a run: temperature and threshold from its validation scans, and statistics of its training scans."""

from pathlib import Path

import keras

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.quality_control.reference_stats import with_training_stats
from ct3d_edge.temperature_scaling import ThresholdRule, check_temperature, fit_operating_point
from ct3d_edge.training.batches import BatchOrder, TrainingData

WARNING = "WARNING: {}"
UNCALIBRATED = "not calibrated: the temperature is 1, the threshold 0.5"


def calibrate_at_end(network: keras.Model, material: TrainingData, contract: Contract) -> tuple[Contract, str]:
    """Fit the contract's temperature and threshold to what a network says of the validation scans.

    Returns
    -------
    tuple
        The contract, unchanged if the network gives all scans the same score, and a sentence on what was done.
    """
    scores = network.predict(material.batches(material.validation), verbose=0)[:, 0]
    truth = material.arrays.labels[list(material.validation.rows)]
    try:
        fitted = fit_operating_point(contract, scores, truth, ThresholdRule())
    except DatasetError as error:
        return contract, f"{UNCALIBRATED}. {error}"
    said = f"temperature {fitted.temperature:.3g}, threshold {fitted.threshold:.3g} ({ThresholdRule()})"
    warnings = check_temperature(fitted.temperature, len(truth))
    return fitted, "\n".join(
        [f"calibrated on the {len(truth)} validation scans: {said}", *map(WARNING.format, warnings)]
    )


def record_stats_at_end(
    network: keras.Model, material: TrainingData, contract: Contract, folder: Path
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
        return with_training_stats(contract, scans, None, None)
    size = material.training.batch_size
    taught, held_out = (
        pooling.predict(material.batches(BatchOrder(order.rows, size)), verbose=0)[0]
        for order in (material.training, material.validation)
    )
    return with_training_stats(contract, scans, taught, held_out)
