"""The end of a run: temperature and threshold from the validation scans, if these can tell."""

import keras

from ct3d_edge.calibration import Rule, calibrate, temperature_warnings
from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.training.material import Material

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
