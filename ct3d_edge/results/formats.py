"""Records as files: JSON Lines, which has every field and can be read back, CSV for spreadsheets, and Parquet."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ct3d_edge.errors import UsageError
from ct3d_edge.extras import require_extra
from ct3d_edge.results.parquet import PARQUET_MODULES, write_parquet
from ct3d_edge.results.record import RECORD_SCHEMA, Prediction, ResultRecord, ScanFailure, Timing
from ct3d_edge.scan.qc_flag import QCFlag, current_code
from ct3d_edge.system.atomic_write import atomic_file, require_writable


def parse_record(line: bytes) -> ResultRecord:
    """The record of one line of ``to_jsonl``.

    Raises
    ------
    ValueError
        If the line is anything else; the message gives the reason.
    """
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict) or value.get("schema") not in (1, RECORD_SCHEMA):
        raise ValueError(f"no record of schema {RECORD_SCHEMA} or 1")
    try:
        value = _upgrade_schema_1(value) if value["schema"] == 1 else value
        record = _build_record(value)
        same = record.to_dict() == value
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no complete record ({error!r})") from error
    # One comparison instead of a check of every field: whatever is missing, too much or of another type differs.
    if not same:
        raise ValueError("not a record as this version writes it")
    return record


def _upgrade_schema_1(value: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1, where flags were called findings and some codes had other names."""
    rest = {name: field for name, field in value.items() if name != "findings"}
    flags = [{**flag, "code": current_code(flag["code"])} for flag in value["findings"]]
    error = value["error"] and {**value["error"], "code": current_code(value["error"]["code"])}
    allowed = sorted(map(current_code, value["allowed"]))
    provider = {**value["provider"], "precision": None}
    return {**rest, "provider": provider, "schema": RECORD_SCHEMA, "flags": flags, "error": error, "allowed": allowed}


def _build_record(value: dict[str, Any]) -> ResultRecord:
    provider, failure = value["provider"], value["error"]
    timing = {stage: ms for stage, ms in value["timing_ms"].items() if stage != "total"}
    return ResultRecord(
        scan=value["scan"],
        status=value["status"],
        prediction=_prediction(value),
        failure=ScanFailure(**failure) if failure is not None else None,
        flags=tuple(QCFlag(**flag) for flag in value["flags"]),
        timing=Timing(**timing),
        model_sha256=value["model_sha256"],
        contract_sha256=value["contract_sha256"],
        requested=provider["requested"],
        actual=provider["actual"],
        nodes=tuple(provider["nodes"].items()),
        scan_sha256=value["scan_sha256"],
        input_sha256=value["input_sha256"],
        allowed=tuple(value["allowed"]),
        precision=provider["precision"],
    )


def _prediction(value: dict[str, Any]) -> Prediction | None:
    if value["label"] is None:
        return None
    return Prediction(value["label"], tuple(value["probability"].items()), value["threshold"])


CSV_LEADING_COLUMNS = ("scan", "status", "label")
CSV_TRAILING_COLUMNS = (
    "threshold",
    "flags",
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


def to_jsonl(records: Sequence[ResultRecord]) -> str:
    """One JSON object a line, in the given order."""
    return "".join(json.dumps(record.to_dict(), allow_nan=False) + "\n" for record in records)


def to_csv(records: Sequence[ResultRecord], labels: Sequence[str]) -> str:
    """A header and one row a record; one ``p_CLASS`` column for each of ``labels``."""
    header = [*CSV_LEADING_COLUMNS, *(f"p_{label}" for label in labels), *CSV_TRAILING_COLUMNS]
    return format_csv_row(header) + "".join(format_csv_row(_record_cells(record, labels)) for record in records)


FORMULA_SIGN = r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]"
"""How a formula begins; the last four are wide forms of the others."""

FORMULA_START = re.compile(rf"^(?=[\t\r\n]|{FORMULA_SIGN})|(?<=[;\t\r\n])(?={FORMULA_SIGN})")
"""Where a spreadsheet may see a formula begin: at the start of a cell, or behind what divides cells in its user's
language (a semicolon in many)."""


def format_csv_row(fields: Sequence[object]) -> str:
    """One row, in which text is text to a spreadsheet, too: what could be a formula gets a single quote in front.

    Numbers stay as they are.
    """
    text = io.StringIO()
    # Up to Python 3.12 the writer quotes a carriage return only if its rows end with one too.
    csv.writer(text, lineterminator="\r\n").writerow([_escape_formula(field) for field in fields])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _escape_formula(field: object) -> object:
    """Names come from whoever sent the scan (OWASP, "CSV Injection")."""
    return FORMULA_START.sub("'", field) if isinstance(field, str) else field


def _record_cells(record: ResultRecord, labels: Sequence[str]) -> list[object]:
    prediction, failure, timing = record.prediction, record.failure, record.timing
    probability = dict(prediction.probability) if prediction else {}
    return [
        record.scan,
        record.status,
        prediction.label if prediction else None,
        *(probability.get(label) for label in labels),
        prediction.threshold if prediction else None,
        ";".join(flag.code for flag in record.flags),
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


RESULTS_SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_results_path(path: Path) -> None:
    """Refuse a file whose ending names no format or that cannot be written, before any work is done.

    Raises
    ------
    UsageError
        With the endings that exist, or the reason why it cannot be written.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if path.suffix.lower() not in RESULTS_SUFFIXES:
        raise UsageError(
            f"Cannot tell the format of {path} from its ending. Use one of: {', '.join(RESULTS_SUFFIXES)}."
        )
    if path.suffix.lower() == ".parquet":
        require_extra("parquet", PARQUET_MODULES)
    require_writable(path)


def write_results(path: Path, records: Sequence[ResultRecord], labels: Sequence[str]) -> None:
    """Write all records at once, in the format that the ending of ``path`` names; complete or not at all."""
    suffix = path.suffix.lower()
    with atomic_file(path) as stream:
        if suffix == ".parquet":
            write_parquet(stream, records, labels)
            return
        text = to_csv(records, labels) if suffix == ".csv" else to_jsonl(records)
        # A path may hold bytes that are no UTF-8. One such name must not make the whole file unreadable.
        stream.write(text.encode("utf-8", "backslashreplace"))
