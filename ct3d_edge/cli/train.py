"""``ct3d-edge train``: two folders of scans become a trained model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ct3d_edge.cli.options import ClassFoldersArgument, LabelsOption, OrientationOption, SkipInvalidOption, parse_labels
from ct3d_edge.cli.training_options import (
    AugmentOption,
    BatchSizeOption,
    EpochsOption,
    FoldOption,
    LearningRateOption,
    MixedPrecisionOption,
    PresetName,
    ResumeOption,
    SeedOption,
    TensorboardOption,
    adapt_preset,
    note_how_to_resume,
    run_summary,
)
from ct3d_edge.keras_backend import import_keras


def train(
    folder: ClassFoldersArgument,
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
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    augment: AugmentOption = None,
    seed: SeedOption = 0,
    validation: Annotated[
        float | None, typer.Option("--validation", help="Share of each class for validation; 0.3 if left out.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", metavar="FILE", help="Follow this split, made by ct3d-edge data split.")
    ] = None,
    fold: FoldOption = None,
    skip_bad: SkipInvalidOption = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="FOLDER", help="Keep prepared scans here for other runs.")
    ] = None,
    labels: LabelsOption = None,
    orientation: OrientationOption = "LAS",
    initial: Annotated[
        Path | None,
        typer.Option("--init-weights", help="A .keras file of the same network to take the first weights from."),
    ] = None,
    precision: MixedPrecisionOption = "float32",
    distribute: Annotated[
        Literal["none", "mirrored", "multiworker"],
        typer.Option("--strategy", help="Share batches: all GPUs here, or the workers of TF_CONFIG (start on each)."),
    ] = "none",
    tensorboard: TensorboardOption = None,
    resume: ResumeOption = False,
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
