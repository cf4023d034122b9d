"""The results of a run as one HTML page that needs nothing else.

The results of a run as one HTML page that needs nothing else: no network, no script from elsewhere.

Pictures of a scan are inert text in the page until somebody opens the scan. They are written to the disk as scans
come in, so that memory does not grow with their number.
"""

import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.report.deidentify import deidentify_flags, deidentify_messages, deidentify_names, deidentify_text
from ct3d_edge.report.slice_images import make_sprite
from ct3d_edge.report.table import DEMO_MODEL_CODE, GroupedMessage, format_confidences, group_messages
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.system.atomic_write import atomic_file, require_writable

HISTOGRAM_BINS = 20
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 190, 30, 40, 28


def format_histogram_svg(values: Sequence[float], label: str, threshold: float | None) -> str:
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


STATUSES = ("ok", "warn", "refused", "error")


class ReportPage:
    """Collects scans and writes the page at the end.

    Parameters
    ----------
    path
        HTML file to write.
    contract
        Of the model.

    Raises
    ------
    UsageError
        If it could not be written later, or its name does not end in .html.
    """

    def __init__(self, path: Path, contract: Contract) -> None:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"The report is a web page; its name must end in .html, found {path}.")
        require_writable(path)
        self.path, self._contract = path, contract
        # Without a buffer: what could not be written is cut off again, and nothing of it is tried once more later.
        # Beside the page: a container may have no other folder that it can write to.
        self._spool_file = tempfile.TemporaryFile(buffering=0, dir=path.resolve().parent)  # noqa: SIM115  # closed in save
        self._count = 0

    def add(
        self,
        record: ResultRecord,
        volume: NDArray[np.float32] | None = None,
        overlay: NDArray[np.float32] | None = None,
        label: str = "",
    ) -> None:
        """Add a scan, in the order of the records given to ``save``.

        Parameters
        ----------
        record
            Its record.
        volume
            Its network input ``contract.shape`` float32 in [0, 1], if there is one.
        overlay, label
            The Grad-CAM map on the same grid, and its class.

        Raises
        ------
        UsageError
            If the pictures cannot be stored. The scan then has its row without pictures.
        """
        number, self._count = self._count, self._count + 1
        data = {
            "sentences": [deidentify_text(text, record) for text in _sentences(record)],
            "sprite": None if volume is None else make_sprite(volume, self._contract.hu_window, overlay, label),
        }
        self._spool(_json_script(f"scan-{number}", data))

    def _spool(self, data: bytes) -> None:
        """Keep bytes for the page, all of them or none."""
        begin, written = self._spool_file.tell(), 0
        try:
            while written < len(data):
                written += self._spool_file.write(data[written:])
        except OSError as error:
            self._spool_file.seek(begin)
            self._spool_file.truncate()
            raise UsageError(
                f"The report cannot keep pictures in the folder of {self.path}: {error.strerror or error}. Free space "
                "there, write it elsewhere, or leave out `report=`."
            ) from error

    def save(self, records: Sequence[ResultRecord], run_report: Mapping[str, object]) -> None:
        """Write the page.

        Raises
        ------
        UsageError
            If it cannot be written.
        """
        script, style = _read_asset("page.js"), _read_asset("page.css")
        with self._spool_file, atomic_file(self.path) as stream:
            stream.write(_format_head(script, style).encode())
            stream.write(
                _format_body(records[: self._count], self._contract, run_report).encode("utf-8", "backslashreplace")
            )
            # Not stored with the pictures: which outputs of a scan could not be written is known later.
            stream.writelines(
                _json_script(f"flags-scan-{number}", deidentify_flags(record))
                for number, record in enumerate(records[: self._count])
            )
            self._spool_file.seek(0)
            shutil.copyfileobj(self._spool_file, stream)
            stream.write(f"<script>{script}</script>\n</body></html>\n".encode())


def _sentences(record: ResultRecord) -> list[str]:
    failure = record.failure
    return [f"{failure.code}: {failure.message}"] if failure else format_confidences(record)


def _json_script(name: str, data: object) -> bytes:
    """JSON in a page: text until the page's own script reads it."""
    # Inside a script element "<" could end it; inside JSON it may be written so that it cannot.
    text = json.dumps(data).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'.encode()


def _read_asset(name: str) -> str:
    return (files("ct3d_edge.report") / "assets" / name).read_text(encoding="utf-8")


def _format_head(script: str, style: str) -> str:
    """With a policy that lets nothing run or load but what is in the page, and no other script than this one."""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_digest(script)}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>CT scans: results</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{style}</style></head>\n'
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _format_body(records: Sequence[ResultRecord], contract: Contract, run_report: Mapping[str, object]) -> str:
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
    answers = [dict(record.prediction.probability) for record in records if record.prediction]
    if not answers:
        return ["<p>No scan has a prediction.</p>"]
    two = len(contract.labels) == 2
    shown = contract.labels[1:] if two else contract.labels
    threshold = contract.threshold if two else None
    return [format_histogram_svg([answer[label] for answer in answers], label, threshold) for label in shown]


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
    titles = [("scan", ""), ("status", ""), ("answer", ""), *((label, "number") for label in contract.labels)]
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
    remarks = ", ".join(
        f'<a href="#note-{index}" title="{escape(note.sentence)}">{escape(note.code)}</a>'
        for index, note in enumerate(notes)
        if number in note.scans
    )
    button = f'<button type="button" aria-expanded="false" data-scan="scan-{number}">{escape(name)}</button>'
    cells = [
        f"<td>{button}</td>",
        f'<td data-label="status" class="whole {record.status}">{record.status}</td>',
        f'<td data-label="answer" class="whole">{escape(record.prediction.label) if record.prediction else ""}</td>',
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
    def cell(value: object) -> str:
        return escape(value if isinstance(value, str) else json.dumps(value))

    items = "".join(f"<dt>{escape(key)}</dt><dd>{cell(value)}</dd>" for key, value in run_report.items())
    return f'<dl id="run-report">{items}</dl>'
