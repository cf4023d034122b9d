"""What the training scans of a run were like, looked up afterwards: their headers, and the network's features."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ScanError
from ct3d_edge.evaluation.classifier import RUN_CONTRACT, RUN_SPLIT, Model, OnProgress, ScanJudged, keras_model, silent
from ct3d_edge.evaluation.test_set import Material, choose, find
from ct3d_edge.preprocess import preprocess
from ct3d_edge.quality_control.reference_stats import record
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.splits.prepared_cache import prepare
from ct3d_edge.splits.split import Entry
from ct3d_edge.system.atomic_write import atomic_file


class Witness:
    """Answers as a model does, and keeps the features that it pooled on the way.

    Parameters
    ----------
    model
        Computed by Keras.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._rows: list[NDArray[np.float64]] = []

    def predict(self, volume: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Model`."""
        if self._model.pooled is None:
            return self._model.predict(volume)
        pooled, probabilities = self._model.pooled(volume)
        self._rows.append(pooled)
        return probabilities

    @property
    def features(self) -> NDArray[np.float64] | None:
        """``(N, C)``, a row a scan; None of a network that pools none."""
        return np.stack(self._rows) if self._rows else None


def is_recorded(contract: Contract) -> bool:
    """Whether a contract says all that it can of its training scans."""
    return contract.training_range is not None and contract.feature_statistics is not None


def record_run(
    run: Path, folder: Path, *, cache: Path | None = None, on_progress: OnProgress = silent
) -> tuple[str, ...]:
    """Write training range and feature statistics into a run's contract; nothing else in it changes.

    Parameters
    ----------
    run, folder
        A training run, and what its split was made from.
    cache, on_progress
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
    model = keras_model(run)
    contract = Contract.from_json((run / RUN_CONTRACT).read_text("utf-8"))
    validation = find(choose(folder, run / RUN_SPLIT, "validation"), on_progress=on_progress)
    held_out = features_of(model, validation, cache, on_progress)
    made, said = look_back(contract, model, run / RUN_SPLIT, folder, held_out, cache, on_progress)
    with atomic_file(run / RUN_CONTRACT) as stream:
        stream.write(made.to_json().encode())
    return said


def look_back(
    contract: Contract,
    model: Model,
    split: Path,
    folder: Path,
    held_out: NDArray[np.float64] | None,
    cache: Path | None,
    on_progress: OnProgress,
) -> tuple[Contract, tuple[str, ...]]:
    """Add what the training scans of a split were like to a contract, as `record` does.

    Parameters
    ----------
    held_out
        Features ``(N, C)`` of scans that did not teach the model.
    """
    material = find(choose(folder, split, "train"), on_progress=on_progress)
    taught = None if held_out is None else features_of(model, material, cache, on_progress)
    return record(contract, [folder / entry.path for entry in material.entries], taught, held_out)


def features_of(
    model: Model, material: Material, cache: Path | None, on_progress: OnProgress
) -> NDArray[np.float64] | None:
    """``(N, C)`` pooled features of those scans that can be used; None of a network that pools none."""
    witness = Witness(model)
    for done, (entry, volume) in enumerate(_volumes(material, model.contract, cache), start=1):
        if volume is not None:
            witness.predict(volume)
        on_progress(ScanJudged(done, len(material.entries), entry.path))
    return witness.features


def _volumes(
    material: Material, contract: Contract, cache: Path | None
) -> Iterator[tuple[Entry, NDArray[np.float32] | None]]:
    """Network inputs; None for scans that cannot be used, of which training and `judge` have told."""
    if cache is None:
        yield from ((entry, _prepared(material.folder / entry.path, contract)) for entry in material.entries)
        return
    # Prepared scans bear the hash of the contract that training began with, which knew nothing of what came after.
    first = replace(contract.untaught, temperature=Contract.temperature, threshold=Contract.threshold)
    made = prepare(material.folder, material.entries, first, cache).entries
    for entry in material.entries:
        yield entry, np.load(made[entry.path].file, mmap_mode="r") if entry.path in made else None


def _prepared(path: Path, contract: Contract) -> NDArray[np.float32] | None:
    try:
        return preprocess(open_scan(path), contract).volume
    except ScanError:
        return None
