"""The files of a training run; ``model.keras`` is written last: where it is, the run is complete."""

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import keras

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.splits.split import Split
from ct3d_edge.system.atomic_write import PART_PREFIX, atomic_file, make_folder, write_failure_message
from ct3d_edge.training.presets import Preset, best_epoch
from ct3d_edge.training.progress import EpochRecord

PANELS = ("loss", "accuracy", "auc")


def draw_curves(records: Sequence[EpochRecord], best: EpochRecord, path: Path) -> None:
    """Draw training against validation, with a line at the epoch whose weights were kept.

    Parameters
    ----------
    path
        PNG to write.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    epochs = [record.epoch for record in records]
    for axes, name in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for label, field in (("training", name), ("validation", f"val_{name}")):
            axes.plot(epochs, [getattr(record, field) for record in records], marker=".", label=label)
        axes.axvline(best.epoch, color="grey", linestyle=":", label="weights kept")
        axes.set(xlabel="epoch", title=name if name != "auc" else "AUC")
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    with atomic_file(path) as stream:
        figure.savefig(stream, format="png", dpi=120)


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
        raise UsageError("To go on with a run and to start it anew exclude each other: --resume or --overwrite.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; a training run needs a folder.")
    if overwrite:
        return
    if (out / MODEL).exists():
        what = "That run is complete" if resume else "Name another folder, or add --overwrite"
        raise UsageError(f"{out} already holds a trained {MODEL}. {what}.")
    if resume and not (out / SPLIT).exists():
        raise UsageError(f"{out} holds no interrupted run to go on with. Begin one without --resume.")
    if (out / CHECKPOINT).exists() and not resume:
        raise UsageError(f"{out} holds a run that was interrupted. Go on with it: --resume. Start anew: --overwrite.")


@contextmanager
def open_run_folder(out: Path, *, lasting: bool) -> Iterator[Path]:
    """Make the run folder; or, for a worker that is to keep nothing, one in its place that goes with all in it."""
    if lasting:
        make_folder(out)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix=PART_PREFIX) as instead:
        yield Path(instead)


def remove_old_files(out: Path) -> None:
    """Remove what an earlier run left, so that its files never stand beside those of this one."""
    for name in (MODEL, CONTRACT, HISTORY, SPLIT, CHECKPOINT, CURVES):
        (out / name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, complete or not at all."""
    with atomic_file(path) as stream:
        stream.write(text.encode())


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write all epochs so far as CSV, one a line; numbers in full so that equal runs give equal files."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    write_text(path, text.getvalue())


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
        Where its files lie.
    contract
        What the model expects of a volume.
    split
        Which scans it was trained and validated on.
    preset
        How it learned.
    epochs
        Figures of every epoch.
    flags
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
    flags: Mapping[str, int]
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
        return self.folder / MODEL


def finish_run(run: TrainedRun, network: keras.Model) -> None:
    """Write what a run leaves behind, and remove what only its resumption needed."""
    write_text(run.folder / CONTRACT, run.contract.to_json())
    draw_curves(run.epochs, run.best, run.folder / CURVES)
    write_model(run.model, network)
    (run.folder / CHECKPOINT).unlink(missing_ok=True)
