"""Options that `train` and `distill` have in common, and the lines that both print."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from ct3d_edge.training.artifacts import TrainedRun
    from ct3d_edge.training.history import EpochDone, OnEpoch
    from ct3d_edge.training.presets import Preset

PresetName = Literal["default", "tutorial"]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Passes over the data at most; else 100.")]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", help="Scans per step; else the preset's: 4, tutorial 2.")
]
LearningRateOption = Annotated[
    float | None, typer.Option("--learning-rate", help="Of Adam at the start; else the preset's.")
]
AugmentOption = Annotated[
    Literal["none", "six-angles", "small-changes"] | None,
    typer.Option("--augment", help="Change of each training volume; else the preset's."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Draws split, weights, order, augmentation and dropout.")]
FoldOption = Annotated[int | None, typer.Option("--fold", min=0, help="Fold of FILE to validate on, from 0.")]
MixedPrecisionOption = Annotated[
    Literal["float32", "mixed_float16", "mixed_bfloat16"],
    typer.Option("--mixed-precision", help="Arithmetic of the layers; half precision is for GPUs."),
]
TensorboardOption = Annotated[
    Path | None, typer.Option("--tensorboard", metavar="FOLDER", help="Also write TensorBoard's event files.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run; repeat its other options.")
]


def adapt_preset(
    name: PresetName, epochs: int | None, batch_size: int | None, learning_rate: float | None, augment: Any
) -> "Preset":
    """The preset of a name, with the options that were given in place of its own settings."""
    from ct3d_edge.training.presets import PRESETS

    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "augmentation": augment,
    }
    return replace(PRESETS[name], **{key: value for key, value in changes.items() if value is not None})


@contextmanager
def note_how_to_resume(out: Path) -> Iterator["OnEpoch"]:
    """Yield a function that prints a line an epoch; after Ctrl-C, print how the run is resumed."""
    from ct3d_edge.cli.terminal import log

    complete = 0

    def on_epoch(event: "EpochDone") -> None:
        nonlocal complete
        complete = event.record.epoch
        log(epoch_line(event))

    try:
        yield on_epoch
    except KeyboardInterrupt:
        if complete:
            log(f"stopped; the same command with --resume continues the run in {out}")
        raise


def epoch_line(event: "EpochDone") -> str:
    """The figures of an epoch in one line; the time left assumes that all epochs are run."""
    record = event.record
    left = event.elapsed / record.epoch * (event.epochs - record.epoch)
    return (
        f"epoch {record.epoch}/{event.epochs}"
        f"  loss {record.loss:.4f}  accuracy {record.accuracy:.3f}"
        f"  val_loss {record.val_loss:.4f}  val_accuracy {record.val_accuracy:.3f}  val_auc {record.val_auc:.3f}"
        f"  {record.seconds:.1f} s  ETA {format_duration(left)}{'  best so far' if event.best else ''}"
    )


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def run_summary(run: "TrainedRun") -> list[str]:
    """What a finished run printed: its weights, calibration, statistics and scans."""
    best = run.best
    lines = [
        f"{run.model}: weights of epoch {best.epoch} of {len(run.epochs)}",
        f"validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.3f}, AUC {best.val_auc:.3f} "
        f"on {plural(len(run.split.validation), 'scan')}, which also chose the epoch: no estimate for new patients",
    ]
    lines += [*run.calibration.splitlines(), *run.reference_stats]
    used = len(run.split.train) + len(run.split.validation)
    lines += [f"{count} of {used} scans: {code}" for code, count in sorted(run.flags.items())]
    lines += [f"duplicate: {file.path} has the content of {file.of}" for file in run.split.duplicates]
    lines += [f"left out: {scan.path}: {scan.reason}" for scan in run.split.left_out]
    return lines
