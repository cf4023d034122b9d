"""A finished training run: what it learned from, how, and the files it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from ct3d_edge.cohort import Split
from ct3d_edge.contract import Contract
from ct3d_edge.training import run_folder
from ct3d_edge.training.curves import draw_curves
from ct3d_edge.training.presets import Preset
from ct3d_edge.training.progress import EpochRecord
from ct3d_edge.training.selection import best_epoch


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished training run.

    Parameters
    ----------
    folder
        Where its files lie.
    contract
        What the model expects of a volume.
    split
        Which scans it was trained and validated on.
    preset
        How it learned.
    epochs
        Figures of every epoch.
    findings
        How many scans have each finding, by its code.
    calibration
        Lines on the contract's temperature and threshold, and what speaks against them.
    recorded
        Sentences on what the contract says of the training scans.
    chief
        Whether this process kept the files. The other workers of a shared run had theirs in a temporary folder.
    """

    folder: Path
    contract: Contract
    split: Split
    preset: Preset
    epochs: tuple[EpochRecord, ...]
    findings: Mapping[str, int]
    calibration: str
    recorded: tuple[str, ...] = ()
    chief: bool = True

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights ``model.keras`` holds."""
        return best_epoch(self.epochs, self.preset.select_by)

    @property
    def model(self) -> Path:
        """Path of ``model.keras``."""
        return self.folder / run_folder.MODEL


def finish(run: TrainedRun, network: keras.Model) -> None:
    """Write what a run leaves behind, and remove what only its resumption needed."""
    run_folder.write_text(run.folder / run_folder.CONTRACT, run.contract.to_json())
    draw_curves(run.epochs, run.best, run.folder / run_folder.CURVES)
    run_folder.write_model(run.model, network)
    (run.folder / run_folder.CHECKPOINT).unlink(missing_ok=True)
