"""``ct3d-edge train``: two folders of scans become a trained model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ct3d_edge.cli.options import LabelsOption, OrientationOption, parse_labels
from ct3d_edge.formatting import plural
from ct3d_edge.keras_backend import import_keras

if TYPE_CHECKING:
    from ct3d_edge.training.artifacts import TrainedRun
    from ct3d_edge.training.history import EpochDone, OnEpoch
    from ct3d_edge.training.presets import Preset

PresetName = Literal["default", "tutorial"]


def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with two folders of scans, one a class.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for the model and its records.")],
    preset: Annotated[
        PresetName,
        typer.Option("--preset", help="Settings of the training: ours, or exactly those of the published tutorial."),
    ] = "default",
    network: Annotated[
        str,
        typer.Option("--network", help="tutorial, narrow, stem, or FILE.py:function, a Keras function of your own."),
    ] = "tutorial",
    size: Annotated[tuple[int, int, int], typer.Option("--shape", metavar="W H D", help="Network input in voxels.")] = (
        128,
        128,
        64,
    ),
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data at most; else 100.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Scans per step; else the preset's: 4, tutorial 2.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Of Adam at the start; else the preset's.")
    ] = None,
    augment: Annotated[
        Literal["none", "six-angles", "small-changes"] | None,
        typer.Option("--augment", help="Change of each training volume; else the preset's."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws split, weights, order, augmentation and dropout.")] = 0,
    validation: Annotated[
        float | None, typer.Option("--validation", help="Share of each class for validation; 0.3 if left out.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", metavar="FILE", help="Follow this split, made by ct3d-edge data split.")
    ] = None,
    fold: Annotated[int | None, typer.Option("--fold", min=0, help="Fold of FILE to validate on, from 0.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-invalid", help="Go on without scans that cannot be used.")] = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="FOLDER", help="Keep prepared scans here for other runs.")
    ] = None,
    labels: LabelsOption = None,
    orientation: OrientationOption = "LAS",
    initial: Annotated[
        Path | None,
        typer.Option("--init-weights", help="A .keras file of the same network to take the first weights from."),
    ] = None,
    precision: Annotated[
        Literal["float32", "mixed_float16", "mixed_bfloat16"],
        typer.Option("--mixed-precision", help="Arithmetic of the layers; half precision is for GPUs."),
    ] = "float32",
    distribute: Annotated[
        Literal["none", "mirrored", "multiworker"],
        typer.Option("--strategy", help="Share batches: all GPUs here, or the workers of TF_CONFIG (start on each)."),
    ] = "none",
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="FOLDER", help="Also write TensorBoard's event files.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; repeat its other options.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left in RUN.")] = False,
) -> None:
    """Train the 3D network on the scans in DIR.

    The model has the weights of the best epoch. At the end one more pass over all scans, about half as long as an
    epoch, adds the geometry and the network features of the training scans to the contract, for the check of new scans.
    """
    import_keras()
    from ct3d_edge.cli.terminal import ProgressBars, print_lines
    from ct3d_edge.training.fit import train as train_network

    with ProgressBars() as progress, note_how_to_resume(out) as on_epoch:
        run = train_network(
            folder,
            out,
            adapt_preset(preset, epochs, batch_size, learning_rate, augment),
            network=network,
            size=size,
            orientation=orientation or "LAS",
            labels=parse_labels(labels),
            seed=seed,
            validation=validation,
            split=split,
            fold=fold,
            skip_bad=skip_bad,
            cache=cache,
            initial=initial,
            precision=precision,
            distribute=distribute,
            tensorboard=tensorboard,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            on_epoch=on_epoch,
        )
    if run.chief:
        print_lines(run_summary(run))


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
