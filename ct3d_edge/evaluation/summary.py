"""An evaluation in lines for people."""

from ct3d_edge.evaluation.evaluation import Evaluation
from ct3d_edge.evaluation.intervals import Estimate, Share

NAME_WIDTH = 19


def summary(evaluation: Evaluation) -> list[str]:
    """Warnings first, then what was judged on what, then the figures, then what took no part."""
    lines = [f"WARNING: {warning}" for warning in evaluation.warnings]
    lines += [*_origin(evaluation), "", *_figures(evaluation), "", *_table(evaluation)]
    lines += [
        f"{count} of {len(evaluation.scans)} scans: {code}" for code, count in sorted(evaluation.findings.items())
    ]
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
        "decision": f"{contract.labels[1]} from {contract.threshold:.4g} on, temperature {contract.temperature:.4g}",
    }
    return [f"{name:<{NAME_WIDTH}}{value}" for name, value in rows.items()]


def _figures(evaluation: Evaluation) -> list[str]:
    figures, (negative, positive) = evaluation.figures, evaluation.contract.labels
    majority = evaluation.contract.labels[int(figures.scans[1] > figures.scans[0])]
    rows = {
        "AUC": _estimate(figures.auc),
        "accuracy": f"{_share(figures.accuracy)} right",
        "baseline": f"{figures.majority:.3f}  {'':<14}   always answering {majority}",
        "sensitivity": f"{_share(figures.sensitivity)} {positive} found",
        "specificity": f"{_share(figures.specificity)} {negative} spared",
        "Brier score": _estimate(figures.brier),
        "calibration error": _estimate(figures.ece),
        "log loss": f"{figures.log_loss:.3f}",
    }
    lines = [f"{'':<{NAME_WIDTH}}value  95 % interval", *(f"{name:<{NAME_WIDTH}}{row}" for name, row in rows.items())]
    how = f"bootstrap within each class for the others ({figures.resamples} resamples, seed {figures.seed})"
    return [*lines, f"Intervals: Wilson for shares, {how}."]


def _table(evaluation: Evaluation) -> list[str]:
    """Confusion matrix: rows are the truth, columns the answers."""
    labels, counts = evaluation.contract.labels, evaluation.figures.confusion
    width = max(NAME_WIDTH, *(len(label) + 2 for label in labels))
    columns = [f"answered {label}" for label in labels]
    cells = ((counts.true_negative, counts.false_positive), (counts.false_negative, counts.true_positive))
    lines = [" " * width + "  ".join(columns)]
    for label, row in zip(labels, cells, strict=True):
        numbers = "  ".join(f"{count:>{len(name)}}" for count, name in zip(row, columns, strict=True))
        lines.append(f"{label:<{width}}{numbers}")
    return lines


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}  {estimate.low:.3f} to {estimate.high:.3f}"


def _share(share: Share) -> str:
    return f"{share.value:.3f}  {share.low:.3f} to {share.high:.3f}   {share.count} of {share.total}"
