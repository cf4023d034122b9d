"""``ct3d-edge fit-temperature``: temperature and threshold of a training run, from its validation scans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import DeprecatedModelArgument, SkipInvalidOption, resolve_model_and_folder
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.evaluation.calibrate import CalibrationResult, OperatingPoint
    from ct3d_edge.evaluation.metrics import Proportion


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
    split: Annotated[
        Path | None, typer.Option("--split", metavar="FILE", help="Split of DIR; that of RUN if left out.")
    ] = None,
    rule: Annotated[
        str, typer.Option("--threshold-method", help="Of the threshold: youden, or for example sensitivity=0.95.")
    ] = "youden",
    skip_bad: SkipInvalidOption = False,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="FOLDER", help="Prepared training scans, as kept by train --cache."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--recompute", help="Look at the training scans again though the contract knows them.")
    ] = False,
) -> None:
    """Fit temperature and threshold on validation scans.

    They are written into RUN/contract.json. A contract that does not say what the training scans were like gets their
    range and feature statistics too, from their headers and one run of the network for each (about 0.6 s a scan on two
    cores at the default input size). Whatever is exported from RUN afterwards carries all of it.
    """
    from ct3d_edge.cli.terminal import ProgressBars, print_lines
    from ct3d_edge.evaluation.calibrate import calibrate_run
    from ct3d_edge.temperature_scaling import ThresholdRule

    parsed = ThresholdRule.parse(rule)
    run, scans = resolve_model_and_folder(model, folder, last)
    if scans is None:
        raise UsageError("Name the folder of scans: ct3d-edge fit-temperature --model RUN DIR.")
    with ProgressBars() as progress:
        made = calibrate_run(
            run,
            scans,
            split=split,
            rule=parsed,
            skip_bad=skip_bad,
            cache=cache,
            anew=anew,
            progress=progress,
        )
    print_lines(describe_calibration(made))


def describe_calibration(made: "CalibrationResult") -> list[str]:
    """Before and after, side by side, and that after is optimistic."""
    scans = ", ".join(f"{count} {label}" for label, count in made.scans)
    before, after = _cells(made.before), _cells(made.after)
    width = max(map(len, (*before.values(), "before")))
    rows = [f"{name:<19}{before[name]:<{width}}  {after[name]}" for name in before]
    return [
        *(f"WARNING: {warning}" for warning in made.warnings),
        f"validation subset of {made.split_file}: {scans}; rule {made.rule}",
        f"{'':<19}{'before':<{width}}  after",
        *rows,
        "Fitted to these very scans: the right column is optimistic. The test subset tells what it is worth.",
        *made.reference_stats,
        *(f"left out: {path}: {reason}" for path, reason in made.left_out),
        f"wrote {made.contract_file}; files exported from this run before keep their old contract",
    ]


def _cells(standing: "OperatingPoint") -> dict[str, str]:
    return {
        "temperature": f"{standing.temperature:.4f}",
        "threshold": f"{standing.threshold:.4f}",
        "log loss": f"{standing.log_loss:.4f}",
        "calibration error": f"{standing.ece:.4f}",
        "sensitivity": _share(standing.sensitivity),
        "specificity": _share(standing.specificity),
    }


def _share(share: "Proportion") -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"
