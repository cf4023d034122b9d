"""The files of a training run; ``model.keras`` is written last: where it is, the run is complete."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.modelfile.comparison_evidence import RUN_COMPARISON
from ct3d_edge.splits.split import Split
from ct3d_edge.system.atomic_write import PART_PREFIX, atomic_file, make_folder, write_failure_message
from ct3d_edge.training.early_stopping import best_epoch
from ct3d_edge.training.history import EpochRecord, draw_curves
from ct3d_edge.training.presets import Preset

MODEL = "model.keras"
CONTRACT = "contract.json"
HISTORY = "history.csv"
SPLIT = "split.json"
CHECKPOINT = "checkpoint.npz"
CURVES = "curves.png"
CACHE = "cache"


def refuse_to_overwrite(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that neither a trained model nor a run that can be resumed would be lost.

    Raises
    ------
    UsageError
        If ``out`` is not a folder, holds a trained model and ``overwrite`` is not set, or holds an interrupted run
        and neither is set; or if both are.
    """
    if resume and overwrite:
        raise UsageError("`resume` goes on with a run, `overwrite` starts it again: give one of them.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; a training run needs a folder.")
    if overwrite:
        return
    if (out / MODEL).exists():
        what = "That run is complete" if resume else "Name another folder, or add `overwrite=True`"
        raise UsageError(f"{out} already holds a trained {MODEL}. {what}.")
    if resume and not (out / SPLIT).exists():
        raise UsageError(f"{out} holds no interrupted run. Begin one without `resume`.")
    if (out / CHECKPOINT).exists() and not resume:
        raise UsageError(
            f"{out} holds an interrupted run. Go on with it: `resume=True`. Start again: `overwrite=True`."
        )


@contextmanager
def open_run_folder(out: Path, *, chief: bool) -> Iterator[Path]:
    """Make the run folder; for a worker that is not the chief, a temporary one that is removed at the end."""
    if chief:
        make_folder(out)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix=PART_PREFIX) as temporary:
        yield Path(temporary)


def remove_old_files(out: Path) -> None:
    """Remove the files of an earlier run, so that they never stand beside those of this one."""
    for name in (MODEL, CONTRACT, HISTORY, SPLIT, CHECKPOINT, CURVES, RUN_COMPARISON):
        (out / name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, complete or not at all."""
    with atomic_file(path) as stream:
        stream.write(text.encode())


def write_model(path: Path, model: keras.Model) -> None:
    """Save a model under a neighbouring name and rename it: ``path`` is never half a model."""
    # Keras chooses the format by the ending, so the temporary name keeps it.
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        model.save(part)
        part.replace(path)
    except OSError as error:
        raise write_failure_message(path, error) from error
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished training run.

    Parameters
    ----------
    folder
        Folder of its files.
    contract
        What the model expects of a volume.
    split
        Which scans it was trained and validated on.
    preset
        How it learned.
    epochs
        Figures of every epoch.
    flags
        How many scans have each quality flag, by its code.
    calibration
        Lines on the contract's temperature and threshold, with warnings.
    reference_stats
        Sentences on the statistics of the training scans in the contract.
    chief
        Whether this process wrote the files. The other workers of a distributed run wrote to a temporary folder.
    """

    folder: Path
    contract: Contract
    split: Split
    preset: Preset
    epochs: tuple[EpochRecord, ...]
    flags: Mapping[str, int]
    calibration: str
    reference_stats: tuple[str, ...] = ()
    chief: bool = True

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights ``model.keras`` holds."""
        return best_epoch(self.epochs, self.preset.select_by)

    @property
    def model(self) -> Path:
        """Path of ``model.keras``."""
        return self.folder / MODEL


def finish_run(run: TrainedRun, network: keras.Model) -> None:
    """Write the files of a finished run, and remove its checkpoint."""
    write_text(run.folder / CONTRACT, run.contract.to_json())
    draw_curves(run.epochs, run.best, run.folder / CURVES)
    write_model(run.model, network)
    (run.folder / CHECKPOINT).unlink(missing_ok=True)
