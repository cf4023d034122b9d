"""The state of a run after an epoch, in one file: a killed run resumes from it to the same end."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.splits.split import Split
from ct3d_edge.splits.split_file import to_json
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.training.history import EpochRecord
from ct3d_edge.training.presets import Preset

GROUPS = ("variables", "optimizer", "best")

NO_TEACHER: dict[str, Any] = {"teacher_sha256": None, "distillation": None}
"""Settings of a training on labels alone."""

SETTINGS_ADDED_SINCE = {"network": "tutorial", **NO_TEACHER}
"""Settings that older checkpoints lack, with the value that was the only one."""

Arrays = tuple[NDArray[np.generic], ...]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run after an epoch.

    Parameters
    ----------
    settings
        Everything that decides how the run goes on, as plain data; see `settings_of`.
    records
        Figures of every epoch so far.
    variables
        Of the network, running statistics and the state of its random generators included.
    optimizer
        Its moments, iteration and learning rate.
    best
        Weights of the best epoch so far.
    """

    settings: dict[str, Any]
    records: tuple[EpochRecord, ...]
    variables: Arrays
    optimizer: Arrays
    best: Arrays

    @property
    def epochs(self) -> int:
        """How many are complete."""
        return len(self.records)

    def write(self, path: Path) -> None:
        """Write it, complete or not at all; some 22 MB for the tutorial's network."""
        groups = {name: getattr(self, name) for name in GROUPS}
        arrays: dict[str, Any] = {
            f"{name}/{n}": array for name, group in groups.items() for n, array in enumerate(group)
        }
        state = {"settings": self.settings, "records": [asdict(record) for record in self.records]}
        with atomic_file(path) as stream:
            np.savez(stream, state=np.array(json.dumps(state)), **arrays)

    def restore(self, model: keras.Model) -> None:
        """Put network and optimizer back to where they were; the model must be compiled."""
        model.optimizer.build(model.trainable_variables)
        _assign(model.variables, self.variables)
        _assign(model.optimizer.variables, self.optimizer)


def state_of(model: keras.Model) -> tuple[Arrays, Arrays]:
    """Values of the network's variables and of its optimizer's."""
    return _values(model.variables), _values(model.optimizer.variables)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `Checkpoint.write` wrote.

    Raises
    ------
    UsageError
        If the file is damaged.
    """
    try:
        # Opened here because NumPy leaves a file open that turns out to be damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            groups = {name: _group(file, name) for name in GROUPS}
        records = tuple(EpochRecord(**record) for record in state["records"])
        return Checkpoint({**SETTINGS_ADDED_SINCE, **state["settings"]}, records, **groups)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} is damaged ({error}). Remove it, or start the run again: `overwrite=True`."
        ) from error


def settings_of(
    network: str,
    preset: Preset,
    seed: int,
    contract: Contract,
    split: Split,
    initial: Path | None,
    precision: str,
    devices: int,
) -> dict[str, Any]:
    """Everything that decides how a run goes, as plain data for a record."""
    return {
        "network": network,
        **asdict(preset),
        "seed": seed,
        "precision": precision,
        "devices": devices,
        "initial_sha256": None if initial is None else _sha256(initial),
        "contract_sha256": contract.sha256,
        "split_sha256": hashlib.sha256(to_json(split).encode()).hexdigest(),
    }


def require_same(settings: dict[str, Any], found: dict[str, Any], out: Path) -> None:
    """Make sure that a run would go on as it began.

    Raises
    ------
    UsageError
        Naming everything that differs.
    """
    names = [name for name in settings if settings[name] != found.get(name)]
    if names:
        differences = "; ".join(f"{name} was {found.get(name)!r}, now {settings[name]!r}" for name in names)
        raise UsageError(
            f"The run in {out} began with other settings: {differences}. "
            "Give the same options and scans to go on with it, or `overwrite=True` to start again."
        )


def _group(file: Any, name: str) -> Arrays:
    count = sum(key.startswith(f"{name}/") for key in file.files)
    return tuple(file[f"{name}/{n}"] for n in range(count))


def _values(variables: Sequence[keras.Variable]) -> Arrays:
    return tuple(keras.ops.convert_to_numpy(variable) for variable in variables)


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"Cannot read the weights in {path}: {error.strerror or error}.") from error
