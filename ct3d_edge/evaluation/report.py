"""An evaluation in a folder and in lines for people: evaluation.json, scans.csv, plots."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct3d_edge.evaluation.evaluation import Evaluation
from ct3d_edge.evaluation.intervals import MetricEstimate, Proportion
from ct3d_edge.extras import require_extra
from ct3d_edge.results.formats import format_csv_row
from ct3d_edge.system.atomic_write import atomic_file, make_folder, require_writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES, DOTS_PER_INCH = (5.0, 5.0), 120


def roc_png(evaluation: Evaluation, reference: Evaluation | None = None) -> bytes:
    """Draw the ROC curve, with the point that the threshold chose; and those of a reference beside it."""
    figures, (negative, positive) = evaluation.figures, evaluation.contract.labels
    figure, axes = _square(f"AUC {figures.auc.value:.3f} ({figures.auc.low:.3f} to {figures.auc.high:.3f})")
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    _draw_roc(axes, evaluation, "")
    if reference is not None:
        _draw_roc(axes, reference, "reference, ")
    axes.set_xlabel(f"share of {_plain(negative)} called {_plain(positive)}")
    axes.set_ylabel(f"share of {_plain(positive)} found")
    axes.legend(loc="lower right")
    return _png(figure)


def _draw_roc(axes: "Axes", evaluation: Evaluation, name: str) -> None:
    figures = evaluation.figures
    (line,) = axes.plot(figures.roc.false_positive_rate, figures.roc.true_positive_rate)
    chosen = f"{name}threshold {evaluation.contract.threshold:.3g}"
    point = 1 - figures.specificity.value, figures.sensitivity.value
    axes.plot(*point, "o", color=line.get_color(), label=chosen)


def reliability_png(evaluation: Evaluation) -> bytes:
    """Draw observed against predicted shares, a point a bin, its area by the number of scans."""
    figures, positive = evaluation.figures, evaluation.contract.labels[1]
    ece = figures.ece
    figure, axes = _square(f"calibration error {ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f})")
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    predicted = [bin_.predicted for bin_ in figures.reliability]
    observed = [bin_.observed for bin_ in figures.reliability]
    axes.plot(predicted, observed, linewidth=1)
    largest = max(bin_.scans for bin_ in figures.reliability)
    axes.scatter(predicted, observed, s=[20 + 180 * bin_.scans / largest for bin_ in figures.reliability])
    for bin_ in figures.reliability:
        axes.annotate(str(bin_.scans), (bin_.predicted, bin_.observed), textcoords="offset points", xytext=(8, -4))
    axes.set_xlabel(f"predicted probability of {_plain(positive)} (numbers: scans)")
    axes.set_ylabel(f"observed share of {_plain(positive)}")
    return _png(figure)


def _square(title: str) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(SIZE_INCHES, DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)  # no window system is asked for one
    axes = figure.add_subplot(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=title)
    axes.grid(alpha=0.3)
    return figure, axes


def _plain(label: str) -> str:
    """A label is text: dollar signs begin no formula."""
    return label.replace("$", r"\$")


def _png(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


NAME_WIDTH = 19


def summary(evaluation: Evaluation) -> list[str]:
    """Warnings, model and test set, metrics, then files that were not used."""
    lines = [f"WARNING: {warning}" for warning in evaluation.warnings]
    lines += [*_origin(evaluation), "", *_figures(evaluation), "", *_table(evaluation)]
    lines += [f"{count} of {len(evaluation.scans)} scans: {code}" for code, count in sorted(evaluation.flags.items())]
    lines += [f"duplicate: {file.path} has the content of {file.of}" for file in evaluation.duplicates]
    return lines + [f"left out: {scan.path}: {scan.reason}" for scan in evaluation.left_out]


def _origin(evaluation: Evaluation) -> list[str]:
    contract = evaluation.contract
    counts = zip(evaluation.figures.scans, contract.labels, strict=True)
    numbers = ", ".join(f"{count} {label}" for count, label in counts)
    part = "all of it" if evaluation.split_file is None else f"{evaluation.subset} of {evaluation.split_file}"
    classes = ", ".join(f"{folder} counts as {label}" for folder, label in evaluation.classes)
    rows = {
        "model": f"{evaluation.model} ({evaluation.run_by})",
        "scans": f"{evaluation.folder}, {part}: {numbers}",
        "class folders": classes,
        "decision": f"{contract.labels[1]} at {contract.threshold:.4g} or above, "
        f"temperature {contract.temperature:.4g}",
    }
    return [f"{name:<{NAME_WIDTH}}{value}" for name, value in rows.items()]


def _figures(evaluation: Evaluation) -> list[str]:
    figures, (negative, positive) = evaluation.figures, evaluation.contract.labels
    majority = evaluation.contract.labels[int(figures.scans[1] > figures.scans[0])]
    rows = {
        "AUC": _estimate(figures.auc),
        "accuracy": f"{_share(figures.accuracy)} right",
        "baseline": f"{figures.majority:.3f}  {'':<14}   always predicting {majority}",
        "sensitivity": f"{_share(figures.sensitivity)} {positive} found",
        "specificity": f"{_share(figures.specificity)} {negative} spared",
        "Brier score": _estimate(figures.brier),
        "calibration error": _estimate(figures.ece),
        "log loss": f"{figures.log_loss:.3f}",
    }
    lines = [f"{'':<{NAME_WIDTH}}value  95 % interval", *(f"{name:<{NAME_WIDTH}}{row}" for name, row in rows.items())]
    how = f"BCa bootstrap within each class for the others ({figures.resamples} resamples, seed {figures.seed})"
    return [*lines, f"Intervals: Wilson for shares, {how}."]


def _table(evaluation: Evaluation) -> list[str]:
    """Confusion matrix: rows are the truth, columns the predictions."""
    labels, counts = evaluation.contract.labels, evaluation.figures.confusion
    width = max(NAME_WIDTH, *(len(label) + 2 for label in labels))
    columns = [f"predicted {label}" for label in labels]
    cells = ((counts.true_negative, counts.false_positive), (counts.false_negative, counts.true_positive))
    lines = [" " * width + "  ".join(columns)]
    for label, row in zip(labels, cells, strict=True):
        numbers = "  ".join(f"{count:>{len(name)}}" for count, name in zip(row, columns, strict=True))
        lines.append(f"{label:<{width}}{numbers}")
    return lines


def _estimate(estimate: MetricEstimate) -> str:
    return f"{estimate.value:.3f}  {estimate.low:.3f} to {estimate.high:.3f}"


def _share(share: Proportion) -> str:
    return f"{share.value:.3f}  {share.low:.3f} to {share.high:.3f}   {share.count} of {share.total}"


JSON, TABLE, ROC, RELIABILITY = "evaluation.json", "scans.csv", "roc.png", "reliability.png"
FILES = (JSON, TABLE, ROC, RELIABILITY)
COLUMNS = ("scan", "truth", "probability", "prediction", "correct")


def require_folder(out: Path, names: Sequence[str] = FILES) -> None:
    """Make sure, before the work, that its files can be written.

    Raises
    ------
    UsageError
        If ``out`` is a file, or cannot be written to.
    MissingExtraError
        If matplotlib is not installed.
    """
    require_extra("evaluate", ["matplotlib"])
    make_folder(out)
    for name in names:
        require_writable(out / name)


def write_files(contents: Mapping[str, bytes], out: Path) -> tuple[Path, ...]:
    """Write all files, each complete or not at all, over earlier ones; their paths."""
    for name, content in contents.items():
        with atomic_file(out / name) as stream:
            stream.write(content)
    return tuple(out / name for name in contents)


def evaluation_files(evaluation: Evaluation) -> dict[str, bytes]:
    """Names and contents of the files of an evaluation."""
    return {
        JSON: to_json(evaluation.to_dict()).encode(),
        TABLE: to_csv(evaluation).encode("utf-8", "backslashreplace"),
        ROC: roc_png(evaluation),
        RELIABILITY: reliability_png(evaluation),
    }


def to_json(data: Mapping[str, Any]) -> str:
    """Indented JSON, without NaN."""
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """A header and one row a scan; the probability is that of the second class."""
    labels = evaluation.contract.labels
    rows = [[v.scan, labels[v.truth], v.probability, labels[v.prediction], v.correct] for v in evaluation.scans]
    return "".join(map(format_csv_row, [COLUMNS, *rows]))
