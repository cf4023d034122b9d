"""A record as one HTML page that needs nothing else.

A roofline as SVG text: what was reached, under what arithmetic and memory allow.

After S. Williams, A. Waterman and D. Patterson, 2009, "Roofline: an insightful visual performance model for multicore
architectures", Commun. ACM 52(4):65. Both axes are logarithmic.
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import stability_warnings
from ct3d_edge.latency.statistics import Percentile, standard_percentiles

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 320, 50, 40
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
"""Okabe & Ito's palette, which the colour-blind can tell apart."""

BAR_ROW_HEIGHT = 34


def ecdf_svg(series: Mapping[str, Sequence[float]]) -> str:
    """The share of samples not above each value, a staircase a series, from 0 to the largest sample of all."""
    largest = max((max(samples) for samples in series.values()), default=1.0) or 1.0
    parts = [_axes(largest)]
    for place, (name, samples) in enumerate(series.items()):
        colour = COLORS[place % len(COLORS)]
        parts.append(f'<path d="{_staircase(samples, largest)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + 8}" y="{18 + 16 * place}" fill="{colour}">{escape(name)}</text>')
    return wrap_svg(HEIGHT, parts)


def bars_svg(values: Mapping[str, float]) -> str:
    """A bar a value, in the order given, each with its number."""
    largest, room = max(values.values(), default=1.0) or 1.0, WIDTH - 220
    parts = []
    for place, (name, value) in enumerate(values.items()):
        top, length = place * BAR_ROW_HEIGHT + 6, room * value / largest
        colour = COLORS[place % len(COLORS)]
        parts.append(f'<text x="0" y="{top + 16}">{escape(name)}</text>')
        parts.append(f'<rect x="130" y="{top}" width="{length:.1f}" height="22" fill="{colour}"/>')
        parts.append(f'<text x="{136 + length:.1f}" y="{top + 16}">{value:.1f}</text>')
    return wrap_svg(BAR_ROW_HEIGHT * max(1, len(values)), parts)


def _staircase(samples: Sequence[float], largest: float) -> str:
    steps = [f"M{_x(0, largest):.1f} {_y(0):.1f}"]
    for place, sample in enumerate(sorted(samples), start=1):
        steps.append(f"H{_x(sample, largest):.1f}V{_y(place / len(samples)):.1f}")
    return "".join([*steps, f"H{_x(largest, largest):.1f}"])


def _x(value: float, largest: float) -> float:
    return LEFT + (WIDTH - LEFT - 10) * value / largest


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * share


def _axes(largest: float) -> str:
    lines = []
    for share in (0.0, 0.5, 0.9, 1.0):
        y = _y(share)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{share:.0%}</text>')
    for part in range(5):
        value = largest * part / 4
        x, y = _x(value, largest), HEIGHT - BOTTOM + 18
        lines.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{value:.4g}</text>')
    lines.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">ms</text>')
    return "".join(lines)


def wrap_svg(height: int, parts: Sequence[str]) -> str:
    """A picture of the common width."""
    content = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" '
        f'font-size="13" role="img">\n{content}\n</svg>'
    )


TOP = 20


class _LogScale:
    """Decades along an axis, wide enough for all values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    @property
    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def roofline_svg(roofline: Mapping[str, Any]) -> str:
    """The two ceilings and a point a name.

    Parameters
    ----------
    roofline
        ``gflop_per_s`` and ``gb_per_s``, both above 0; ``points``: name to operations a byte and GFLOP/s.
    """
    top, slope = float(roofline["gflop_per_s"]), float(roofline["gb_per_s"])
    points = {name: (float(x), float(y)) for name, (x, y) in roofline["points"].items() if x > 0 and y > 0}
    ridge = top / slope
    across = _LogScale([ridge, *(x for x, _ in points.values())], LEFT, WIDTH - 10)
    up = _LogScale([top, *(y for _, y in points.values())], HEIGHT - BOTTOM, TOP)
    parts = [_roofline_axes(across, up), _roof(across, up, top, slope)]
    for place, (name, (x, y)) in enumerate(points.items()):
        parts.append(_point(across(x), up(y), name, COLORS[place % len(COLORS)], place))
    return wrap_svg(HEIGHT, parts)


def _roof(across: _LogScale, up: _LogScale, top: float, slope: float) -> str:
    """Memory's slope up to the ridge, arithmetic's level behind it; cut where the picture ends."""
    left, right = across.decades[0], across.decades[-1]
    begin = max(left, up.decades[0] / slope)
    path = f"M{across(begin):.1f} {up(min(top, begin * slope)):.1f}"
    path += f"L{across(top / slope):.1f} {up(top):.1f}H{across(right):.1f}"
    return (
        f'<path d="{path}" fill="none" stroke="#000" stroke-width="2"/>'
        f'<text x="{across(right):.1f}" y="{up(top) - 6:.1f}" text-anchor="end">{top:.0f} GFLOP/s, '
        f"{slope:.1f} GB/s</text>"
    )


def _point(x: float, y: float, name: str, colour: str, place: int) -> str:
    label = f'<text x="{LEFT + 8}" y="{TOP + 16 + 16 * place}" fill="{colour}">{escape(name)}</text>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>{label}'


def _roofline_axes(across: _LogScale, up: _LogScale) -> str:
    lines = []
    for value in up.decades:
        y = up(value)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{value:g}</text>')
    for value in across.decades:
        x = across(value)
        lines.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    lines.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">operations a byte</text>')
    lines.append(f'<text x="{LEFT}" y="12">GFLOP/s</text>')
    return "".join(lines)


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } small { color: #666; display: block } svg { max-width: 100% }
.warn { background: #fff3cd; padding: .4rem .8rem } pre { overflow-x: auto; background: #f6f6f6; padding: .8rem }
"""


def record_page(record: BenchRecord) -> str:
    """The page, complete, without scripts or addresses."""
    series = {name: samples for name, samples in record.series().items() if samples}
    parts = [
        f"<h1>{escape(record.question)}</h1><p>{escape(record.created)}</p>",
        *_warnings(record, series),
        "<h2>Percentiles</h2><p>In ms; below each its 99 % interval. None is shown that has too few runs.</p>",
        _percentiles(series),
        "<h2>Distribution</h2><p>Share of the runs that took no longer.</p>",
        ecdf_svg(_drawn(record, series)),
        *_stages(record),
        *_layers(record),
        *_table("Once, in ms", {name: f"{value:.1f}" for name, value in record.once.items()}),
        *_table("Costs besides time", {name: _amount(value) for name, value in record.resources.items()}),
        f"<h2>Conditions</h2><pre>{_plain(record.conditions)}</pre>",
        f"<h2>Environment</h2><pre>{_plain(record.environment)}</pre>",
    ]
    title = escape(record.question)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _warnings(record: BenchRecord, series: Mapping[str, Sequence[float]]) -> list[str]:
    said = [f"Incomplete: {record.incomplete}"] if record.incomplete else []
    for name in record.headline_series:
        said += [f"{name}: {doubt}" for doubt in stability_warnings(series.get(name, ()), record.surroundings)]
    return [f'<p class="warn">{escape(text)}</p>' for text in said]


def _drawn(record: BenchRecord, series: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The clocks, where there are any."""
    return {name: series[name] for name in record.clocks if name in series} or dict(series)


def _percentiles(series: Mapping[str, Sequence[float]]) -> str:
    rows = {
        name: [entry for entry in standard_percentiles(samples) if not entry.missing]
        for name, samples in series.items()
    }
    titles = [entry.name for entry in max(rows.values(), key=len, default=[])]
    head = "".join(f"<th>{title}</th>" for title in ("", "runs", *titles))
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{len(series[name])}</td>{''.join(map(_cell, entries))}</tr>"
        for name, entries in rows.items()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(entry: Percentile) -> str:
    interval = "-" if entry.low is None or entry.high is None else f"{entry.low:.1f} to {entry.high:.1f}"
    return f"<td>{entry.value:.1f}<small>{interval}</small></td>"


def _stages(record: BenchRecord) -> list[str]:
    """Medians of the stages that add up."""
    if record.arrangement != "stages" or not record.samples.counted:
        return []
    *_, whole = record.clocks.values() or [tuple(record.samples.counted)]
    medians = {name: median(record.samples.counted[name]) for name in whole if name in record.samples.counted}
    return ["<h2>Where the time goes</h2><p>Medians in ms.</p>", bars_svg(medians)]


def _layers(record: BenchRecord) -> list[str]:
    """How far parts of the work are from what the machine could do, where the record knows."""
    roofline = record.conditions.get("roofline")
    if not isinstance(roofline, Mapping):
        return []
    told = "<h2>Distance to the limit</h2><p>What was reached, under what a matrix product and a copy reach here.</p>"
    return [told, roofline_svg(roofline)]


def _table(title: str, rows: Mapping[str, str]) -> list[str]:
    if not rows:
        return []
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return [f"<h2>{escape(title)}</h2><table>{body}</table>"]


def _amount(value: float | None) -> str:
    return "this system does not tell" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def _plain(data: Mapping[str, object]) -> str:
    return escape(json.dumps(data, indent=1, default=str))
