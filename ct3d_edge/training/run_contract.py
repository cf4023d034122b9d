"""The contract of a training run: from its arguments, then with what the trained network adds."""

from collections.abc import Sequence
from pathlib import Path

import keras

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, DatasetError, UsageError
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.quality_control.reference_stats import with_training_stats
from ct3d_edge.splits.split import Split
from ct3d_edge.temperature_scaling import ThresholdRule, check_temperature, fit_operating_point
from ct3d_edge.training.batches import BatchOrder, TrainingData
from ct3d_edge.training.presets import Preset

LABEL_OF_FOLDER = {"CT-0": "normal", "CT-23": "abnormal"}
"""What the tutorial calls the two archives of MosMedData."""

UNCALIBRATED = "not calibrated: the temperature is 1, the threshold 0.5"


def make_contract(size: tuple[int, int, int], orientation: str, labels: Sequence[str] | None, split: Split) -> Contract:
    """The contract of a run by its arguments; a `UsageError` if they do not fit.

    Parameters
    ----------
    size, orientation, labels
        See `ct3d_edge.training.fit.train`.
    split
        Its class folders name the labels if ``labels`` is None.
    """
    names = [LABEL_OF_FOLDER.get(name, name) for name in split.classes] if labels is None else labels
    if len(names) != len(split.classes):
        raise UsageError(f"{len(split.classes)} labels are needed, for {', '.join(split.classes)}; found {names}.")
    try:
        return Contract(shape=size, orientation=orientation, labels=tuple(names))
    except ContractError as error:
        raise UsageError(str(error)) from error


def complete_contract(
    contract: Contract, network: keras.Model, data: TrainingData, preset: Preset, folder: Path
) -> tuple[Contract, str, tuple[str, ...]]:
    """Add temperature, threshold, training range and feature statistics of a trained network.

    Returns
    -------
    tuple
        The contract, lines on the calibration, and sentences on range and statistics.
    """
    calibrated, calibration = _calibrate(network, data, contract) if preset.calibrate else (contract, UNCALIBRATED)
    completed, reference_stats = _add_reference_stats(network, data, calibrated, folder)
    return completed, calibration, reference_stats


def _calibrate(network: keras.Model, data: TrainingData, contract: Contract) -> tuple[Contract, str]:
    """Fit temperature and threshold on the validation scans, unless all have the same score; with lines on the fit."""
    scores = network.predict(data.batches(data.validation), verbose=0)[:, 0]
    truth = data.arrays.labels[list(data.validation.rows)]
    try:
        fitted = fit_operating_point(contract, scores, truth, ThresholdRule())
    except DatasetError as error:
        return contract, f"{UNCALIBRATED}. {error}"
    point = f"temperature {fitted.temperature:.3g}, threshold {fitted.threshold:.3g} ({ThresholdRule()})"
    warnings = [f"WARNING: {warning}" for warning in check_temperature(fitted.temperature, len(truth))]
    return fitted, "\n".join([f"calibrated on the {len(truth)} validation scans: {point}", *warnings])


def _add_reference_stats(
    network: keras.Model, data: TrainingData, contract: Contract, folder: Path
) -> tuple[Contract, tuple[str, ...]]:
    """Add training range and feature statistics, from headers and one pass over all scans without augmentation."""
    extractor = with_pooled_features(network)
    scans = [folder / entry.path for entry in data.arrays.split.train]
    if extractor is None:
        return with_training_stats(contract, scans, None, None)
    train_features, val_features = (
        extractor.predict(data.batches(BatchOrder(order.rows, data.training.batch_size)), verbose=0)[0]
        for order in (data.training, data.validation)
    )
    return with_training_stats(contract, scans, train_features, val_features)
