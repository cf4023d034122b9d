"""Trends as a picture. Imports matplotlib."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ct3d_edge.latency.history import Trend

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 8.0, 3.0, 120


def trend_png(trends: Sequence[Trend]) -> bytes:
    """One panel a trend: medians with their 99 % intervals, a dotted line where machine or work changed."""
    figure = Figure((WIDTH_INCHES, HEIGHT_INCHES * len(trends)), DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)  # no window system is asked for one
    panels = figure.subplots(len(trends), squeeze=False)[:, 0]
    for axes, trend in zip(panels, trends, strict=True):
        _draw(axes, trend)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _draw(axes: Axes, trend: Trend) -> None:
    medians = [entry.median for entry in trend.entries]
    values = [median.value for median in medians]
    below = [median.value - (median.value if median.low is None else median.low) for median in medians]
    above = [(median.value if median.high is None else median.high) - median.value for median in medians]
    places = range(len(medians))
    axes.errorbar(places, values, yerr=[below, above], fmt="o-", capsize=3)
    for place, entry in enumerate(trend.entries):
        if entry.broken_by:
            axes.axvline(place - 0.5, linestyle=":", color="grey")
    axes.set_xticks(list(places), [entry.record.created[:10] for entry in trend.entries], rotation=30, ha="right")
    axes.set_title(f"{trend.question}: {trend.series}".replace("$", r"\$"), fontsize="medium")
    axes.set_ylabel("median, ms")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
