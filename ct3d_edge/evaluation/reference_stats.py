"""What the training scans of a run were like, looked up afterwards: their headers, and the network's features."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ScanError
from ct3d_edge.evaluation.classifier import (
    RUN_CONTRACT,
    RUN_SPLIT,
    Classifier,
    open_keras_classifier,
)
from ct3d_edge.evaluation.test_set import TestSet, choose_test_set, find_test_set
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.reference_stats import with_training_stats
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.splits.prepared_cache import prepare_cache
from ct3d_edge.system.atomic_write import atomic_file


class FeatureExtractor:
    """Answers as a model does, and keeps the features that it pooled on the way.

    Parameters
    ----------
    model
        Computed by Keras.
    """

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._rows: list[NDArray[np.float64]] = []

    def predict(self, volume: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Classifier`."""
        if self._model.pooled is None:
            return self._model.predict(volume)
        pooled, probabilities = self._model.pooled(volume)
        self._rows.append(pooled)
        return probabilities

    @property
    def features(self) -> NDArray[np.float64] | None:
        """``(N, C)``, a row a scan; None of a network that pools none."""
        return np.stack(self._rows) if self._rows else None


def has_reference_stats(contract: Contract) -> bool:
    """Whether a contract says all that it can of its training scans."""
    return contract.training_range is not None and contract.feature_statistics is not None


def record_reference_stats(
    run: Path, folder: Path, *, cache: Path | None = None, progress: Progress = no_progress
) -> tuple[str, ...]:
    """Write training range and feature statistics into a run's contract; nothing else in it changes.

    Parameters
    ----------
    run, folder
        A training run, and what its split was made from.
    cache, progress
        As for `calibrate_run`.

    Returns
    -------
    tuple
        Sentences on what was written.

    Raises
    ------
    DatasetError
        If the scans are not those of the split.
    ModelError, UsageError, ContractError, MissingExtraError
        As for `calibrate_run`.
    """
    model = open_keras_classifier(run)
    contract = Contract.from_json((run / RUN_CONTRACT).read_text("utf-8"))
    validation = find_test_set(choose_test_set(folder, run / RUN_SPLIT, "validation"), progress=progress)
    held_out = features_of(model, validation, cache, progress)
    made, said = measure_training_scans(contract, model, run / RUN_SPLIT, folder, held_out, cache, progress)
    with atomic_file(run / RUN_CONTRACT) as stream:
        stream.write(made.to_json().encode())
    return said


def measure_training_scans(
    contract: Contract,
    model: Classifier,
    split: Path,
    folder: Path,
    held_out: NDArray[np.float64] | None,
    cache: Path | None,
    progress: Progress,
) -> tuple[Contract, tuple[str, ...]]:
    """Add what the training scans of a split were like to a contract, as `with_training_stats` does.

    Parameters
    ----------
    held_out
        Features ``(N, C)`` of scans that did not teach the model.
    """
    material = find_test_set(choose_test_set(folder, split, "train"), progress=progress)
    taught = None if held_out is None else features_of(model, material, cache, progress)
    return with_training_stats(contract, [folder / entry.path for entry in material.entries], taught, held_out)


def features_of(
    model: Classifier, material: TestSet, cache: Path | None, progress: Progress
) -> NDArray[np.float64] | None:
    """``(N, C)`` pooled features of those scans that can be used; None of a network that pools none."""
    monitor = FeatureExtractor(model)
    for done, volume in enumerate(_volumes(material, model.contract, cache), start=1):
        if volume is not None:
            monitor.predict(volume)
        progress(done, len(material.entries), "Predicting scans")
    return monitor.features


def _volumes(material: TestSet, contract: Contract, cache: Path | None) -> Iterator[NDArray[np.float32] | None]:
    """Network inputs; None for scans that cannot be used."""
    if cache is None:
        yield from (_prepare(material.folder / entry.path, contract) for entry in material.entries)
        return
    # The files are named after the contract that training began with, before it was fitted.
    first = replace(contract.without_training_stats, temperature=Contract.temperature, threshold=Contract.threshold)
    cached = prepare_cache(material.folder, material.entries, first, cache).entries
    for entry in material.entries:
        yield np.load(cached[entry.path].file, mmap_mode="r") if entry.path in cached else None


def _prepare(path: Path, contract: Contract) -> NDArray[np.float32] | None:
    try:
        return preprocess(open_scan(path), contract).volume
    except ScanError:
        return None
