"""A record as one HTML page that needs nothing else: percentiles, distribution, where the time goes."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

from ct3d_edge.latency.doubts import doubts
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.roofline import roofline_svg
from ct3d_edge.latency.statistics import Percentile, summary
from ct3d_edge.latency.svg import bars_svg, ecdf_svg

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } small { color: #666; display: block } svg { max-width: 100% }
.warn { background: #fff3cd; padding: .4rem .8rem } pre { overflow-x: auto; background: #f6f6f6; padding: .8rem }
"""


def page(record: BenchRecord) -> str:
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
    for name in record.headlines:
        said += [f"{name}: {doubt}" for doubt in doubts(series.get(name, ()), record.surroundings)]
    return [f'<p class="warn">{escape(text)}</p>' for text in said]


def _drawn(record: BenchRecord, series: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The clocks, where there are any."""
    return {name: series[name] for name in record.clocks if name in series} or dict(series)


def _percentiles(series: Mapping[str, Sequence[float]]) -> str:
    rows = {name: [entry for entry in summary(samples) if not entry.missing] for name, samples in series.items()}
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
