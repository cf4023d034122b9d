"""``ct3d-edge evaluate``: metrics of a model on scans of known class."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeprecatedModelArgument,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    JsonOption,
    NonInferiorOption,
    ProviderOption,
    ProviderOptionsOption,
    SkipInvalidOption,
    TrainedModelOption,
    inference_config,
    resolve_model_and_folder,
)
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.evaluation.comparison import Comparison


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
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="MODEL", help="Compare with this model on the same scans."),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", help="By how much the AUC may be lower than that of --against.")
    ] = 0.02,
    require_non_inferior: NonInferiorOption = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the comparison in the run folder; export puts it into the file.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Evaluate a model on scans of known class, with intervals.

    AUC, sensitivity, specificity, accuracy beside its baseline, calibration. With --against, also how both models
    differ on the same scans: is the first one no worse?
    """
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.evaluation.compare_models import record_evidence, require_recordable
    from ct3d_edge.evaluation.intervals import RESAMPLES

    model_path, scans = resolve_model_and_folder(model, folder, last)
    config = inference_config(provider, allow_fallback, provider_option, device_id, no_tuned=no_tuned, allow=allow)
    settings = {
        "split": split,
        "subset": subset,
        "config": config,
        "skip_bad": skip_bad,
        "resamples": resamples or RESAMPLES,
        "seed": seed,
    }
    if against is None:
        if require_non_inferior or record:
            raise UsageError("--require-non-inferior and --record belong to --against MODEL: name that as well.")
        _evaluate(model_path, scans, settings, out, json_=json_)
        return
    if record:
        require_recordable(model_path)
    comparison = _compare(model_path, against, scans, {**settings, "margin": margin}, out, json_=json_)
    if require_non_inferior:
        comparison.require_non_inferior()
    if record:
        log(f"wrote {record_evidence(comparison, model_path)}; files exported from now on hold it")


def _evaluate(model: Path, scans: Path | None, settings: dict[str, Any], out: Path | None, *, json_: bool) -> None:
    from ct3d_edge.cli.terminal import ProgressBars, log
    from ct3d_edge.evaluation.evaluation import evaluate as evaluate_model
    from ct3d_edge.evaluation.report import evaluation_files, require_folder, summary, write_files

    if out:
        require_folder(out)
    with ProgressBars() as progress:
        result = evaluate_model(model, scans, **settings, progress=progress)
    _print_result(result.to_dict(), summary(result), result.remarks, result.warnings, json_=json_)
    for path in write_files(evaluation_files(result), out) if out else ():
        log(f"wrote {path}")


def _compare(
    model: Path, against: Path, scans: Path | None, settings: dict[str, Any], out: Path | None, *, json_: bool
) -> "Comparison":
    from ct3d_edge.cli.terminal import ProgressBars, log
    from ct3d_edge.evaluation.compare_models import compare_models
    from ct3d_edge.evaluation.comparison_report import COMPARISON_FILES, comparison_summary, write_comparison_files
    from ct3d_edge.evaluation.report import require_folder, summary

    if out:
        require_folder(out, COMPARISON_FILES)
    with ProgressBars() as progress:
        comparison = compare_models(model, against, scans, **settings, progress=progress)
    first, second = comparison.model, comparison.reference
    rest_in = "in evaluation.json" if out else "which --out FOLDER lists"
    lines = [*summary(first), "", *comparison_summary(comparison, rest_in)]
    warnings = (*first.warnings, *comparison.invalid_because, *comparison.warnings)
    _print_result(comparison.to_dict(), lines, (*first.remarks, *second.remarks), warnings, json_=json_)
    for path in write_comparison_files(comparison, out) if out else ():
        log(f"wrote {path}")
    return comparison


def _print_result(
    data: dict[str, Any], lines: list[str], remarks: tuple[str, ...], warnings: tuple[str, ...], *, json_: bool
) -> None:
    from ct3d_edge.cli.terminal import log, print_lines
    from ct3d_edge.evaluation.report import to_json

    for remark in remarks:
        log(remark)
    if not json_:
        print_lines(lines)
        return
    for warning in warnings:
        log(f"WARNING: {warning}", logging.WARNING)
    typer.echo(to_json(data), nl=False)
