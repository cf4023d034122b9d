"""``ct3d-edge fit-temperature``: temperature and threshold of a training run, from its validation scans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import DeprecatedModelArgument, RunSplitOption, SkipInvalidOption, resolve_model_and_folder
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.evaluation.fit_temperature import CalibrationResult, OperatingPoint
    from ct3d_edge.evaluation.intervals import Proportion


def fit_temperature(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Folder with two folders of scans, one a class.  [required]"),
    ] = None,
    last: DeprecatedModelArgument = None,
    *,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", metavar="RUN", help="A folder that `train` wrote.  [required]")
    ] = None,
    split: RunSplitOption = None,
    rule: Annotated[
        str, typer.Option("--threshold-method", help="Of the threshold: youden, or for example sensitivity=0.95.")
    ] = "youden",
    skip_bad: SkipInvalidOption = False,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="FOLDER", help="Prepared training scans, as written by train --cache."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--recompute", help="Compute the statistics of the training scans again.")
    ] = False,
) -> None:
    """Fit temperature and threshold on validation scans.

    They are written into RUN/contract.json. A contract without statistics of the training scans gets their range and
    features too, from their headers and one run of the network for each (about 0.6 s a scan on two cores at the default
    input size). Every file that is exported from RUN afterwards contains them.
    """
    from ct3d_edge.cli.terminal import ProgressBars, print_lines
    from ct3d_edge.evaluation.fit_temperature import calibrate_run
    from ct3d_edge.temperature_scaling import ThresholdRule

    parsed = ThresholdRule.parse(rule)
    run, scans = resolve_model_and_folder(model, folder, last)
    if scans is None:
        raise UsageError("Name the folder of scans: ct3d-edge fit-temperature --model RUN DIR.")
    with ProgressBars() as progress:
        result = calibrate_run(
            run,
            scans,
            split=split,
            rule=parsed,
            skip_bad=skip_bad,
            cache=cache,
            anew=anew,
            progress=progress,
        )
    print_lines(describe_calibration(result))


def describe_calibration(result: "CalibrationResult") -> list[str]:
    """Metrics before and after, side by side, with warnings."""
    scans = ", ".join(f"{count} {label}" for label, count in result.scans)
    before, after = _cells(result.before), _cells(result.after)
    width = max(map(len, (*before.values(), "before")))
    rows = [f"{name:<19}{before[name]:<{width}}  {after[name]}" for name in before]
    return [
        *(f"WARNING: {warning}" for warning in result.warnings),
        f"validation subset of {result.split_file}: {scans}; rule {result.rule}",
        f"{'':<19}{'before':<{width}}  after",
        *rows,
        "Fitted to these scans: the right column is optimistic. Use the test subset to evaluate it.",
        *result.reference_stats,
        *(f"left out: {path}: {reason}" for path, reason in result.left_out),
        f"wrote {result.contract_file}; files exported from this run before keep their old contract",
    ]


def _cells(point: "OperatingPoint") -> dict[str, str]:
    return {
        "temperature": f"{point.temperature:.4f}",
        "threshold": f"{point.threshold:.4f}",
        "log loss": f"{point.log_loss:.4f}",
        "calibration error": f"{point.ece:.4f}",
        "sensitivity": _share(point.sensitivity),
        "specificity": _share(point.specificity),
    }


def _share(share: "Proportion") -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"
