"""``ct3d-edge distill``: a trained network becomes a small one that predicts the same."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ct3d_edge.cli.options import NonInferiorOption, RunSplitOption, SkipInvalidOption
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
    format_duration,
    note_how_to_resume,
    run_summary,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.keras_backend import import_keras

if TYPE_CHECKING:
    from ct3d_edge.training.estimate import DurationEstimate

LONG_HOURS = 8
"""Above this, a warning says what makes a training shorter."""


def distill(
    teacher: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `train` wrote, or a .keras file.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder with two folders of scans; else that of --split.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SMALL", help="Folder for the small model.")],
    network: Annotated[
        str,
        typer.Option(
            "--network",
            help="narrow, stem, FILE.py:function; auto or prune: the largest for the target; prune:16-32-64-128.",
        ),
    ] = "narrow",
    speedup: Annotated[
        float | None, typer.Option("--speedup", help="Target: times as fast as RUN, both exported.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option("--latency", metavar="TIME", help="Target: of one run, such as 20ms.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Target: added by session and runs.")
    ] = None,
    file_size: Annotated[
        str | None, typer.Option("--file-size", metavar="SIZE", help="Target: of the exported file.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="What logits are divided by before they are compared.")
    ] = 2.0,
    logits_weight: Annotated[
        float, typer.Option("--logits-weight", help="Of the teacher's logits in the loss; labels weigh 1.")
    ] = 1.0,
    features_weight: Annotated[
        float, typer.Option("--features-weight", help="Of the teacher's pooled features in the loss.")
    ] = 0.1,
    preset: Annotated[PresetName, typer.Option("--preset", help="Settings of the training, as for train.")] = "default",
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: LearningRateOption = None,
    augment: AugmentOption = None,
    seed: SeedOption = 0,
    split: RunSplitOption = None,
    fold: FoldOption = None,
    unlabelled: Annotated[
        Path | None, typer.Option("--unlabelled", metavar="FOLDER", help="More scans; RUN gives them labels.")
    ] = None,
    skip_bad: SkipInvalidOption = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="FOLDER", help="Prepared scans, as written by train --cache.")
    ] = None,
    precision: MixedPrecisionOption = "float32",
    tensorboard: TensorboardOption = None,
    margin: Annotated[
        float, typer.Option("--margin", help="By how much the AUC may be lower than that of RUN.")
    ] = 0.02,
    require_non_inferior: NonInferiorOption = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Write the comparison here, as evaluate --against --out does."),
    ] = None,
    resume: ResumeOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left in SMALL.")] = False,
) -> None:
    """Train a small network to predict what RUN predicts.

    It learns from the labels and from the predictions of RUN for the same augmented scans. How long that takes at most
    is printed before it starts, from measured steps. At the end both are compared on the test subset of the split.
    SMALL is a training run: evaluate and export take it.
    """
    import_keras()
    from ct3d_edge.cli.terminal import ProgressBars, log, print_lines
    from ct3d_edge.distillation.distill import distill as distill_network
    from ct3d_edge.evaluation.comparison_report import COMPARISON_FILES, comparison_summary, write_comparison_files
    from ct3d_edge.evaluation.report import NAME_WIDTH, require_folder
    from ct3d_edge.training.teacher import DistillationSettings

    if report:
        require_folder(report, COMPARISON_FILES)
    with ProgressBars() as progress, note_how_to_resume(out) as on_epoch:
        distilled = distill_network(
            teacher,
            folder,
            out,
            adapt_preset(preset, epochs, batch_size, learning_rate, augment),
            network=network,
            target=_parse_target(speedup, latency, memory, file_size),
            settings=DistillationSettings(temperature, logits_weight, features_weight),
            split=split,
            fold=fold,
            unlabelled=unlabelled,
            margin=margin,
            require_comparison=require_non_inferior or report is not None,
            seed=seed,
            skip_bad=skip_bad,
            cache=cache,
            precision=precision,
            tensorboard=tensorboard,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            on_estimate=_print_estimate,
            on_epoch=on_epoch,
        )
    print_lines(run_summary(distilled.run))
    if distilled.comparison is not None:
        student = distilled.comparison.model
        rest_in = "in evaluation.json" if report else "which `evaluate --against --out FOLDER` lists"
        lines = comparison_summary(distilled.comparison, rest_in)
        print_lines(["", f"{'model':<{NAME_WIDTH}}{student.model} ({student.run_by})", *lines])
        for path in write_comparison_files(distilled.comparison, report) if report else ():
            log(f"wrote {path}")
    if require_non_inferior:
        distilled.require_non_inferior()


def _parse_target(speedup: float | None, latency: str | None, memory: str | None, file_size: str | None) -> Any:
    """A `Target`; None if no option names one."""
    from ct3d_edge.distillation.search import Target
    from ct3d_edge.formatting import parse_size

    values = speedup, parse_milliseconds(latency), parse_size(memory), parse_size(file_size)
    return Target(*values) if any(value is not None for value in values) else None


def parse_milliseconds(text: str | None) -> float | None:
    """``20ms``, ``0.1 s``, or a number of milliseconds; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)?", text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"A latency is a number with a unit, e.g. 20ms; found {text!r}.")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


def _print_estimate(estimate: "DurationEstimate") -> None:
    from ct3d_edge.cli.terminal import log

    log(
        f"at most {format_duration(estimate.seconds)} (h:min:s) for {estimate.epochs} epochs, from measured steps of "
        f"{estimate.step_seconds:.2f} s"
    )
    if estimate.seconds > LONG_HOURS * 3600:
        log(
            f"WARNING: that is over {LONG_HOURS} hours. A GPU, fewer --epochs, or a smaller --network shorten it; "
            "Ctrl-C and --resume divide it."
        )
