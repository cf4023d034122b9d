"""``ct3d-edge evaluate``: metrics of a model on scans of known class."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeprecatedModelArgument,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    JsonOption,
    ProviderOption,
    ProviderOptionsOption,
    SkipInvalidOption,
    TrainedModelOption,
    inference_config,
    resolve_model_and_folder,
)


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder with two folders of scans, one a class.")
    ] = None,
    last: DeprecatedModelArgument = None,
    *,
    model: TrainedModelOption = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", metavar="FILE", help="Split of DIR; without it all of DIR is the test set."),
    ] = None,
    subset: Annotated[
        Literal["test", "validation", "train"] | None,
        typer.Option("--subset", help="Which part of FILE; test if left out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Write evaluation.json, scans.csv and two plots here."),
    ] = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_tuned: IgnoreTuningOption = False,
    allow: DowngradeCheckOption = None,
    skip_bad: SkipInvalidOption = False,
    resamples: Annotated[
        int | None, typer.Option("--resamples", min=100, help="Of the bootstrap intervals; 2000 if left out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the resamples.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Evaluate a model on scans of known class, with intervals.

    AUC, sensitivity, specificity, accuracy beside its baseline, calibration.
    """
    from ct3d_edge.cli.terminal import ProgressBars, log, print_lines
    from ct3d_edge.evaluation.evaluation import evaluate as evaluate_model
    from ct3d_edge.evaluation.metrics import RESAMPLES
    from ct3d_edge.evaluation.report import require_folder, summary, to_json, write_files

    model_path, scans = resolve_model_and_folder(model, folder, last)
    config = inference_config(provider, allow_fallback, provider_option, device_id, no_tuned=no_tuned, allow=allow)
    if out:
        require_folder(out)
    with ProgressBars() as progress:
        result = evaluate_model(
            model_path,
            scans,
            split=split,
            subset=subset,
            config=config,
            skip_bad=skip_bad,
            resamples=resamples or RESAMPLES,
            seed=seed,
            progress=progress,
        )
    for remark in result.remarks:
        log(remark)
    if json_:
        for warning in result.warnings:
            log(f"WARNING: {warning}", logging.WARNING)
        typer.echo(to_json(result), nl=False)
    else:
        print_lines(summary(result))
    for path in write_files(result, out) if out else ():
        log(f"wrote {path}")
