"""A line of JSON Lines becomes the record that it was written from."""

import json
from typing import Any

from ct3d_edge.results.record import SCHEMA, Answer, Failure, Record, Timing
from ct3d_edge.scan import Finding


def parse_record(line: bytes) -> Record:
    """The record of one line of ``to_jsonl``.

    Raises
    ------
    ValueError
        If the line is anything else; the message says what is wrong with it.
    """
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"no record of schema {SCHEMA}")
    try:
        record = _record(value)
        same = record.to_dict() == value
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no complete record ({error!r})") from error
    # One comparison instead of a check of every field: whatever is missing, too much or of another type differs.
    if not same:
        raise ValueError("not a record as this version writes it")
    return record


def _record(value: dict[str, Any]) -> Record:
    provider, failure = value["provider"], value["error"]
    timing = {stage: taken for stage, taken in value["timing_ms"].items() if stage != "total"}
    return Record(
        scan=value["scan"],
        status=value["status"],
        answer=_answer(value),
        failure=Failure(**failure) if failure is not None else None,
        findings=tuple(Finding(**finding) for finding in value["findings"]),
        timing=Timing(**timing),
        model_sha256=value["model_sha256"],
        contract_sha256=value["contract_sha256"],
        requested=provider["requested"],
        actual=provider["actual"],
        nodes=tuple(provider["nodes"].items()),
        scan_sha256=value["scan_sha256"],
        input_sha256=value["input_sha256"],
        allowed=tuple(value["allowed"]),
    )


def _answer(value: dict[str, Any]) -> Answer | None:
    if value["label"] is None:
        return None
    return Answer(value["label"], tuple(value["probability"].items()), value["threshold"])
