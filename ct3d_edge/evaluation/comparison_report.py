"""A comparison in lines for people, and as an HTML page with pictures of the scans that two models differ on."""

import base64
import io
from importlib.resources import files
from pathlib import Path

from ct3d_edge.evaluation.comparison import Comparison, ScanPair
from ct3d_edge.evaluation.intervals import MetricEstimate, Proportion
from ct3d_edge.evaluation.predict import ScanPrediction
from ct3d_edge.evaluation.report import (
    COLUMNS,
    FILES,
    JSON,
    NAME_WIDTH,
    ROC,
    TABLE,
    evaluation_files,
    roc_png,
    to_json,
    write_files,
)
from ct3d_edge.formatting import plural
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.quality_control.check_registry import DOWNGRADABLE
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.report.slice_images import apply_lung_window, select_slices, tile_slices
from ct3d_edge.results.formats import format_csv_row

PAGE = "comparison.html"
COMPARISON_FILES = (*FILES, PAGE)

MAX_LISTED = 10
"""Scans in lines for people."""

MAX_PICTURES, SLICES = 40, 8
"""Scans with a picture in the page, about 100 kB each, and the slices of one."""


def comparison_summary(comparison: Comparison, rest_in: str = "in evaluation.json") -> list[str]:
    """Warnings, metrics side by side, the outcome, then scans that differ or are not paired.

    Parameters
    ----------
    rest_in
        Where those of them are that are too many for the terminal.
    """
    reference, figures = comparison.reference, comparison.figures
    counts = zip(figures.scans, reference.contract.labels, strict=True)
    return [
        *(f"WARNING: {warning}" for warning in (*comparison.invalid_because, *comparison.warnings)),
        f"{'reference':<{NAME_WIDTH}}{reference.model} ({reference.run_by})",
        f"{'common scans':<{NAME_WIDTH}}{', '.join(f'{count} {label}' for count, label in counts)}",
        "",
        *_metric_rows(comparison),
        "Intervals of differences: DeLong and bootstrap (BCa) for AUC, bootstrap (percentile) for sensitivity; both "
        f"models get the same scans ({figures.resamples} resamples, seed {figures.seed}). Sensitivities at the "
        f"reference's specificity {figures.specificity:.3f}.",
        "",
        _agreement(comparison),
        *_differing(comparison, rest_in),
        *(f"no prediction of {scan.missing}: {scan.scan}: {scan.reason}" for scan in comparison.unpaired),
        _outcome(comparison),
    ]


def _metric_rows(comparison: Comparison) -> list[str]:
    figures, difference = comparison.figures, comparison.figures.auc_difference
    shares = figures.sensitivity, figures.reference_sensitivity, figures.sensitivity_difference
    rows = [
        f"{'':<{NAME_WIDTH}}model  reference  difference  95 % interval",
        _row("AUC", figures.auc, figures.reference_auc, f"{difference.low:+.3f} to {difference.high:+.3f} (DeLong)"),
        f"{'':<{NAME_WIDTH + 30}}{difference.bootstrap_low:+.3f} to {difference.bootstrap_high:+.3f} (bootstrap)",
        _row("sensitivity", shares[0].value, shares[1].value, f"{shares[2].low:+.3f} to {shares[2].high:+.3f}"),
    ]
    pairs: dict[str, tuple[MetricEstimate | Proportion, MetricEstimate | Proportion]] = {
        "Brier score": (comparison.model.figures.brier, comparison.reference.figures.brier),
        "calibration error": (comparison.model.figures.ece, comparison.reference.figures.ece),
        "accuracy": (comparison.model.figures.accuracy, comparison.reference.figures.accuracy),
    }
    return rows + [_row(name, model.value, reference.value) for name, (model, reference) in pairs.items()]


def _row(name: str, model: float, reference: float, interval: str = "") -> str:
    return f"{name:<{NAME_WIDTH}}{model:<5.3f}  {reference:>9.3f}  {model - reference:>+10.3f}  {interval}".rstrip()


def _agreement(comparison: Comparison) -> str:
    share, kappa = comparison.figures.agreement, comparison.figures.kappa
    beyond = "kappa undefined" if kappa is None else f"Cohen's kappa {kappa:.3f}"
    return (
        f"Both decide alike on {share.count} of {plural(share.total, 'scan')}: {share.value:.3f} "
        f"({share.low:.3f} to {share.high:.3f}), {beyond}."
    )


def _differing(comparison: Comparison, rest_in: str) -> list[str]:
    """A table of the scans on which the two decide differently, the largest difference first."""
    differing = comparison.differing
    if not differing:
        return []
    cells = [_cells(comparison, pair) for pair in differing[:MAX_LISTED]]
    names = {"truth": "truth", "model": "model", "reference": "reference", "scan": "scan"}
    widths = {name: max(len(row[name]) for row in (names, *cells)) for name in names}
    lines = ["  ".join(f"{row[name]:<{widths[name]}}" for name in names).rstrip() for row in (names, *cells)]
    rest = len(differing) - len(cells)
    return lines + ([f"and {rest} more, {rest_in}"] if rest else [])


def _cells(comparison: Comparison, pair: ScanPair) -> dict[str, str]:
    labels = comparison.model.contract.labels

    def decided(scan: ScanPrediction) -> str:
        return f"{labels[scan.prediction]} {scan.probability:.3f}"

    return {
        "truth": labels[pair.model.truth],
        "model": decided(pair.model),
        "reference": decided(pair.reference),
        "scan": pair.model.scan,
    }


def _outcome(comparison: Comparison) -> str:
    margin = f"at a margin of {comparison.margin:g} in AUC"
    if comparison.non_inferior:
        return f"Non-inferior {margin}: both intervals of the difference are above {-comparison.margin:g}."
    if comparison.invalid_because:
        return f"Not shown to be non-inferior {margin}: the scans are no test of both."
    least = comparison.figures.auc_difference.least
    return f"Not shown to be non-inferior {margin}: an interval of the difference reaches {least:+.3f}."


def comparison_page(comparison: Comparison) -> str:
    """The page; scans that differ are read again for their pictures."""
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (files("ct3d_edge.evaluation") / "comparison.html").read_text(encoding="utf-8")
    )
    differing = comparison.differing
    pictures = [_picture(comparison, pair) for pair in differing[:MAX_PICTURES]]
    pictures += [""] * (len(differing) - len(pictures))
    return template.render(
        model=comparison.model.model.name,
        reference=comparison.reference.model.name,
        warnings=[*comparison.invalid_because, *comparison.model.warnings, *comparison.warnings],
        lines=[*_metric_rows(comparison), "", _agreement(comparison), _outcome(comparison)],
        roc=base64.b64encode(roc_png(comparison.model, comparison.reference)).decode(),
        rows=[
            {**_cells(comparison, pair), "picture": picture} for pair, picture in zip(differing, pictures, strict=True)
        ],
        hidden=max(0, len(differing) - MAX_PICTURES),
        unpaired=comparison.unpaired,
    )


def _picture(comparison: Comparison, pair: ScanPair) -> str:
    """Slices of a scan as the model sees it, in the lung window: a PNG in base64; empty if the scan is gone."""
    from PIL import Image

    contract = comparison.model.contract
    checker = QualityChecker(contract, DOWNGRADABLE)  # the model has predicted it, whatever its flags are
    prepared = prepare_scan(comparison.model.folder / pair.model.scan, contract, checker=checker)
    if prepared.model_input is None:
        return ""
    volume = prepared.model_input.volume
    chosen = select_slices(volume.shape[2], SLICES)
    grey = apply_lung_window(volume[:, :, chosen].transpose(2, 0, 1), contract.hu_window)
    stream = io.BytesIO()
    Image.fromarray(tile_slices(grey, SLICES)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def write_comparison_files(comparison: Comparison, out: Path) -> tuple[Path, ...]:
    """Write the files of the model's evaluation, with the comparison in them, and the page; their paths."""
    contents = {
        **evaluation_files(comparison.model),
        JSON: to_json(comparison.to_dict()).encode(),
        TABLE: _to_csv(comparison).encode("utf-8", "backslashreplace"),
        ROC: roc_png(comparison.model, comparison.reference),
        PAGE: comparison_page(comparison).encode("utf-8", "backslashreplace"),
    }
    return write_files(contents, out)


def _to_csv(comparison: Comparison) -> str:
    """The table of an evaluation and two columns of the reference, which are empty where it has no prediction."""
    labels = comparison.model.contract.labels
    known = {pair.model.scan: pair.reference for pair in comparison.pairs}
    rows: list[list[object]] = [[*COLUMNS, "reference_probability", "reference_prediction"]]
    for scan in comparison.model.scans:
        other = known.get(scan.scan)
        row = [scan.scan, labels[scan.truth], scan.probability, labels[scan.prediction], scan.correct]
        rows.append([*row, *(("", "") if other is None else (other.probability, labels[other.prediction]))])
    return "".join(map(format_csv_row, rows))
