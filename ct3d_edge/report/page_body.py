"""The body of the report page: summary, histograms, table of scans, remarks, run report."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from ct3d_edge.contract import Contract
from ct3d_edge.formatting import format_value, plural
from ct3d_edge.report.deidentify import deidentify_messages, deidentify_names
from ct3d_edge.report.table import DEMO_MODEL_CODE, GroupedMessage, group_messages
from ct3d_edge.results.record import ResultRecord

STATUSES = ("ok", "warn", "refused", "error")


def format_body(records: Sequence[ResultRecord], contract: Contract, run_report: Mapping[str, object]) -> str:
    """HTML from ``<body>`` to the end of ``<main>``; file names and messages without what identifies a patient."""
    names = deidentify_names([record.scan for record in records])
    messages = [
        [message for message in deidentify_messages(record) if message[0] != DEMO_MODEL_CODE] for record in records
    ]
    notes = group_messages(messages, [record.scan for record in records])
    parts = [
        "<body><main><h1>CT scans: results</h1>",
        f"<p>Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by ct3d-edge. Not a medical device.</p>",
        *_format_summary(records),
        "<h2>Probabilities</h2>",
        *_format_histograms(records, contract),
        "<h2>Scans</h2>",
        _format_filters(),
        _format_table(records, names, contract, notes),
        *_format_notes(notes, names),
        "<h2>Run report</h2>",
        _format_run_report(run_report),
        "</main>\n",
    ]
    return "\n".join(parts)


def _format_summary(records: Sequence[ResultRecord]) -> list[str]:
    counts = {status: sum(record.status == status for record in records) for status in STATUSES}
    facts = [("scans", len(records))] + [(status, count) for status, count in counts.items() if count]
    items = "".join(f"<li><strong>{number}</strong>{escape(name)}</li>" for name, number in facts)
    # What is true of every prediction is stated once, at the top.
    demonstration = {f.detail for record in records for f in record.flags if f.code == DEMO_MODEL_CODE}
    notes = [f'<p class="note">{escape(detail)}</p>' for detail in sorted(demonstration)]
    return [*notes, f'<ul class="facts">{items}</ul>']


def _format_histograms(records: Sequence[ResultRecord], contract: Contract) -> list[str]:
    predictions = [dict(record.prediction.probability) for record in records if record.prediction]
    if not predictions:
        return ["<p>No scan has a prediction.</p>"]
    two = len(contract.labels) == 2
    shown = contract.labels[1:] if two else contract.labels
    threshold = contract.threshold if two else None
    return [_format_histogram([each[label] for each in predictions], label, threshold) for label in shown]


def _format_filters() -> str:
    options = "".join(f"<option>{status}</option>" for status in STATUSES)
    return (
        '<div class="tools"><label>Find in the table<br><input type="search" id="text"></label>'
        f'<label>Status<br><select id="status"><option value="">all</option>{options}</select></label>'
        '<span id="count" role="status"></span></div>'
    )


def _format_table(
    records: Sequence[ResultRecord], names: Sequence[str], contract: Contract, notes: Sequence[GroupedMessage]
) -> str:
    titles = [("scan", ""), ("status", ""), ("prediction", ""), *((label, "number") for label in contract.labels)]
    titles += [("ms", "number"), ("remarks", "")]
    head = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{escape(title)}</button></th>' for title, kind in titles
    )
    rows = "\n".join(
        _format_row(number, name, record, contract, notes)
        for number, (name, record) in enumerate(zip(names, records, strict=True))
    )
    return (
        f'<div class="wide"><table id="scans"><caption hidden>Scans</caption><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _format_row(
    number: int, name: str, record: ResultRecord, contract: Contract, notes: Sequence[GroupedMessage]
) -> str:
    probability = dict(record.prediction.probability) if record.prediction else {}
    predicted = escape(record.prediction.label) if record.prediction else ""
    remarks = ", ".join(
        f'<a href="#note-{index}" title="{escape(note.sentence)}">{escape(note.code)}</a>'
        for index, note in enumerate(notes)
        if number in note.scans
    )
    button = f'<button type="button" aria-expanded="false" data-scan="scan-{number}">{escape(name)}</button>'
    cells = [
        f"<td>{button}</td>",
        f'<td data-label="status" class="whole {record.status}">{record.status}</td>',
        f'<td data-label="prediction" class="whole">{predicted}</td>',
        *(_format_number_cell(label, probability.get(label), 4) for label in contract.labels),
        _format_number_cell("ms", record.timing.total, 0),
        f'<td data-label="remarks">{remarks and f"<span>{remarks}</span>"}</td>',
    ]
    return f'<tr data-status="{record.status}">{"".join(cells)}</tr>'


def _format_number_cell(label: str, value: float | None, digits: int) -> str:
    shown = "" if value is None else f"{value:.{digits}f}"
    known = "" if value is None else value
    return f'<td data-label="{escape(label)}" class="number" data-value="{known}">{shown}</td>'


def _format_notes(notes: Sequence[GroupedMessage], names: Sequence[str]) -> list[str]:
    """The sentences behind the codes in the table, each once."""
    if not notes:
        return []
    items = "".join(
        f'<dt id="note-{index}">{escape(note.code)}</dt>'
        f"<dd>{escape(note.sentence)}<br><small>{escape(note.describe_scans(names))}</small></dd>"
        for index, note in enumerate(notes)
    )
    return ["<h2>Remarks</h2>", f'<dl id="notes">{items}</dl>']


def _format_run_report(run_report: Mapping[str, object]) -> str:
    items = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(format_value(value))}</dd>" for key, value in run_report.items()
    )
    return f'<dl id="run-report">{items}</dl>'


HISTOGRAM_BINS = 20
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 190, 30, 40, 28


def _format_histogram(values: Sequence[float], label: str, threshold: float | None) -> str:
    """A histogram of probabilities of one class, with the threshold; its label states the same as text."""
    counts = [0] * HISTOGRAM_BINS
    for value in values:
        counts[min(HISTOGRAM_BINS - 1, int(value * HISTOGRAM_BINS))] += 1
    highest, step = max(counts) or 1, (WIDTH - LEFT) / HISTOGRAM_BINS
    parts = []
    for index, number in enumerate(counts):
        height = (HEIGHT - BOTTOM - TOP) * number / highest
        x, y = LEFT + index * step, HEIGHT - BOTTOM - height
        parts.append(f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}"/>')
        if number:
            parts.append(f'<text x="{x + step / 2:.1f}" y="{y - 3:.1f}" text-anchor="middle">{number}</text>')
    for part in range(6):
        x = LEFT + (WIDTH - LEFT) * part / 5
        anchor = "end" if part == 5 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{part / 5:.1f}</text>')
    if threshold is not None:
        x = LEFT + (WIDTH - LEFT) * threshold
        parts.append(f'<path class="threshold" d="M{x:.1f} 6V{HEIGHT - BOTTOM}"/>')
        anchor = "start" if threshold < 0.5 else "end"  # half of the picture
        aside = 4 if threshold < 0.5 else -4
        parts.append(f'<text x="{x + aside:.1f}" y="18" text-anchor="{anchor}">threshold {threshold:.2f}</text>')
    caption = f"Probability of {label} in {plural(len(values), 'scan')}"
    caption += "" if threshold is None else f"; line: threshold {threshold:.3g}"
    bars = "; ".join(
        f"{n / HISTOGRAM_BINS:.2f} to {(n + 1) / HISTOGRAM_BINS:.2f}: {number}"
        for n, number in enumerate(counts)
        if number
    )
    content = "".join(parts)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{caption}. {bars}")}">{content}</svg>'
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
