"""Records as text: JSON Lines, the form that keeps everything, and CSV, the form that opens in a spreadsheet."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from ct3d_edge.atomic import atomic_file, require_writable
from ct3d_edge.errors import UsageError
from ct3d_edge.results.record import Record

CSV_COLUMNS = ("scan", "status", "label")
CSV_TAIL = (
    "threshold",
    "findings",
    "error_code",
    "error_message",
    "read_ms",
    "preprocess_ms",
    "infer_ms",
    "total_ms",
    "provider_requested",
    "provider",
    "model_sha256",
)


def to_jsonl(records: Sequence[Record]) -> str:
    """One JSON object a line, in the given order."""
    return "".join(json.dumps(record.to_dict(), allow_nan=False) + "\n" for record in records)


def to_csv(records: Sequence[Record], labels: Sequence[str]) -> str:
    """A header and one row a record; one ``p_CLASS`` column for each of ``labels``."""
    header = [*CSV_COLUMNS, *(f"p_{label}" for label in labels), *CSV_TAIL]
    return csv_line(header) + "".join(csv_line(_row(record, labels)) for record in records)


SIGN = r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]"
"""How a formula begins; the last four are wide forms of the others."""

FORMULA = re.compile(rf"^(?=[\t\r\n]|{SIGN})|(?<=[;\t\r\n])(?={SIGN})")
"""Where a spreadsheet may see a formula begin: at the start of a cell, or behind what divides cells in its user's
language (a semicolon in many)."""


def csv_line(fields: Sequence[object]) -> str:
    """One row, in which text is text to a spreadsheet, too: before what could be a formula stands a single quote.

    Numbers are given as numbers and stay as they are.
    """
    text = io.StringIO()
    # Up to Python 3.12 the writer quotes a carriage return only if its rows end with one too.
    csv.writer(text, lineterminator="\r\n").writerow([_defused(field) for field in fields])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _defused(field: object) -> object:
    """Names come from whoever sent the scan (OWASP, "CSV Injection")."""
    return FORMULA.sub("'", field) if isinstance(field, str) else field


def _row(record: Record, labels: Sequence[str]) -> list[object]:
    answer, failure, timing = record.answer, record.failure, record.timing
    probability = dict(answer.probability) if answer else {}
    return [
        record.scan,
        record.status,
        answer.label if answer else None,
        *(probability.get(label) for label in labels),
        answer.threshold if answer else None,
        ";".join(finding.code for finding in record.findings),
        failure.code if failure else None,
        failure.message if failure else None,
        timing.read,
        timing.preprocess,
        timing.infer,
        timing.total,
        record.requested,
        record.actual,
        record.model_sha256,
    ]


FORMATS = (".jsonl", ".csv")


def check_results_path(path: Path) -> None:
    """Refuse a file whose ending names no format or that cannot be written, before any work is done.

    Raises
    ------
    UsageError
        With the endings that exist, or what stands in the way.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"Cannot tell the format of {path} from its ending. Use one of: {', '.join(FORMATS)}.")
    require_writable(path)


def write_results(path: Path, records: Sequence[Record], labels: Sequence[str]) -> None:
    """Write all records at once, in the format that the ending of ``path`` names; complete or not at all."""
    text = to_csv(records, labels) if path.suffix.lower() == ".csv" else to_jsonl(records)
    with atomic_file(path) as stream:
        # A path may hold bytes that are no UTF-8. One such name must not make the whole file unreadable.
        stream.write(text.encode("utf-8", "backslashreplace"))
