"""The end of a run: temperature and threshold from the validation scans, if these can tell."""

import keras

from ct3d_edge.calibration import Rule, calibrate
from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.training.loop import Material

UNCALIBRATED = "not calibrated: the temperature is 1, the threshold 0.5"


def calibrated(model: keras.Model, material: Material) -> tuple[Contract, str]:
    """Fit the contract's temperature and threshold to what a network says of the validation scans.

    Returns
    -------
    tuple
        The contract, unchanged if the network gives all scans the same score, and a sentence on what was done.
    """
    scores = model.predict(material.batches(material.validation), verbose=0)[:, 0]
    truth = material.arrays.labels[list(material.validation.rows)]
    try:
        contract = calibrate(material.contract, scores, truth, Rule())
    except DatasetError as error:
        return material.contract, f"{UNCALIBRATED}. {error}"
    fitted = f"temperature {contract.temperature:.3g}, threshold {contract.threshold:.3g} ({Rule()})"
    return contract, f"calibrated on the {len(truth)} validation scans: {fitted}"
