"""A benchmark record as one HTML page without scripts or links: a jinja2 template and pictures by matplotlib."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from statistics import median
from typing import Any

import matplotlib as mpl
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ct3d_edge.formatting import format_value
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import stability_warnings
from ct3d_edge.latency.statistics import standard_percentiles

Series = Mapping[str, Sequence[float]]

SVG_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "ct3d-edge",  # the same record gives the same bytes
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}


def record_page(record: BenchRecord) -> str:
    """The whole page: warnings, percentiles, pictures, and the conditions of the measurement."""
    series = {name: samples for name, samples in record.series().items() if samples}
    rows = {name: standard_percentiles(samples) for name, samples in series.items()}
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (files("ct3d_edge.latency") / "page.html").read_text(encoding="utf-8")
    )
    return template.render(
        record=record,
        warnings=_warnings(record, series),
        rows=rows,
        ranks=max(([entry.name for entry in row if not entry.missing] for row in rows.values()), key=len, default=[]),
        pictures=_pictures(record, series),
        tables={
            "Once, in ms": {name: f"{value:.1f}" for name, value in record.once.items()},
            "Memory, CPU time and energy": {name: _amount(value) for name, value in record.resources.items()},
            "Conditions": {name: format_value(value) for name, value in record.conditions.items()},
            "Environment": {name: format_value(value) for name, value in record.environment.items()},
        },
    )


def _warnings(record: BenchRecord, series: Series) -> list[str]:
    incomplete = [f"Incomplete: {record.incomplete}"] if record.incomplete else []
    return incomplete + [
        f"{name}: {warning}"
        for name in record.headline_series
        for warning in stability_warnings(series.get(name, ()), record.surroundings)
    ]


def _amount(value: float | None) -> str:
    return "unknown on this system" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def _pictures(record: BenchRecord, series: Series) -> dict[str, str]:
    """Title to an SVG picture in base64."""
    if not series:
        return {}
    shown = {name: series[name] for name in record.clocks if name in series} or series
    pictures = {"Share of the runs that took no longer": _svg(lambda axes: draw_distributions(axes, shown))}
    if record.arrangement == "stages":
        medians = {name: median(series[name]) for name in record.stages if name in series}
        pictures["Where the time goes: medians"] = _svg(lambda axes: draw_medians(axes, medians), 0.4 * len(medians))
    roofline = record.conditions.get("roofline")
    if isinstance(roofline, Mapping):
        pictures["Distance to the limits of this machine"] = _svg(lambda axes: draw_roofline(axes, roofline))
    return pictures


def _svg(draw: Callable[[Axes], None], inches: float = 3.3) -> str:
    """An SVG picture in base64; ``inches`` is the height of its panel without labels."""
    stream = io.BytesIO()
    with mpl.rc_context(SVG_SETTINGS):
        figure = Figure((8, inches + 0.7), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return base64.b64encode(stream.getvalue()).decode()


def draw_distributions(axes: Axes, series: Series) -> None:
    """Empirical distribution functions, one a series, in ms."""
    for name, samples in series.items():
        axes.ecdf(samples, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_medians(axes: Axes, medians: Mapping[str, float]) -> None:
    """A bar a value, in the given order from the top down, each with its number in ms."""
    axes.bar_label(axes.barh(list(medians), list(medians.values())), fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("ms")


def draw_roofline(axes: Axes, roofline: Mapping[str, Any]) -> None:
    """The two limits and a point for each layer, on logarithmic axes.

    After S. Williams, A. Waterman and D. Patterson, 2009, "Roofline: an insightful visual performance model for
    multicore architectures", Commun. ACM 52(4):65.

    Parameters
    ----------
    roofline
        ``gflop_per_s`` and ``gb_per_s``, both above 0; ``points``: name to operations a byte and GFLOP/s.
    """
    top, slope = float(roofline["gflop_per_s"]), float(roofline["gb_per_s"])
    points = {name: (x, y) for name, (x, y) in roofline["points"].items() if x > 0 and y > 0}
    ridge = top / slope
    intensities = [ridge, *(x for x, _ in points.values())]
    left, right = min(intensities) / 2, max(intensities) * 2
    axes.loglog([left, ridge, right], [left * slope, top, top], color="black")
    axes.annotate(f"{top:.0f} GFLOP/s, {slope:.1f} GB/s", (right, top), ha="right", va="bottom")
    for name, (x, y) in points.items():
        axes.plot(x, y, "o", label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("GFLOP/s")
    axes.grid(alpha=0.3)
    axes.legend()
