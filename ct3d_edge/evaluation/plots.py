"""ROC curve and reliability diagram as PNG. Imports matplotlib."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ct3d_edge.evaluation.evaluation import Evaluation

SIZE_INCHES, DOTS_PER_INCH = (5.0, 5.0), 120


def roc_png(evaluation: Evaluation) -> bytes:
    """Draw the ROC curve, with the point that the threshold chose."""
    figures, (negative, positive) = evaluation.figures, evaluation.contract.labels
    figure, axes = _square(f"AUC {figures.auc.value:.3f} ({figures.auc.low:.3f} to {figures.auc.high:.3f})")
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    axes.plot(figures.roc.false_positive_rate, figures.roc.true_positive_rate)
    chosen = f"threshold {evaluation.contract.threshold:.3g}"
    axes.plot(1 - figures.specificity.value, figures.sensitivity.value, "o", label=chosen)
    axes.set_xlabel(f"share of {_plain(negative)} called {_plain(positive)}")
    axes.set_ylabel(f"share of {_plain(positive)} found")
    axes.legend(loc="lower right")
    return _png(figure)


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


def _square(title: str) -> tuple[Figure, Axes]:
    figure = Figure(SIZE_INCHES, DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)  # no window system is asked for one
    axes = figure.add_subplot(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=title)
    axes.grid(alpha=0.3)
    return figure, axes


def _plain(label: str) -> str:
    """A label is text: dollar signs begin no formula."""
    return label.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
