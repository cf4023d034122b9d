"""The part of a record that may be shown to anybody: no patient's name or ID, no path on this machine."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.qc_flag import QCFlag

IDENTIFIERS_CODE = "identifiers"
"""Code of the quality flag that holds a patient's name and ID."""

AUXILIARY_OUTPUT_CODE = "auxiliary_output_failed"
"""Code of the quality flag that names a file that could not be written."""

RUN_DEPENDENT_DETAILS = {"duplicate": "The network input is identical to that of another scan of this run."}
"""Code of each quality flag that depends on other scans of a run, and its detail without their names."""


def deidentify_names(scans: Sequence[str]) -> list[str]:
    """File names, numbered where several are equal: a folder is often named after its patient."""
    seen: Counter[str] = Counter()
    names = []
    for scan in scans:
        name = Path(scan).name
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def deidentify_text(text: str, record: ResultRecord) -> str:
    """A sentence about a scan without the scan's folder."""
    parent = str(Path(record.scan).parent)
    if parent in (".", os.sep):
        return text
    for folder in (os.path.abspath(parent), parent):  # noqa: PTH100  # resolve() would follow links
        text = text.replace(folder + os.sep, "").replace(folder, Path(folder).name)
    return text


def deidentify_messages(record: ResultRecord) -> list[tuple[str, str]]:
    """Code and sentence of the failure and of each quality flag, without those that identify the patient."""
    failure = record.failure
    messages = [(failure.code, failure.message)] if failure else []
    hidden = (IDENTIFIERS_CODE, failure.code if failure else None)
    messages += [(flag.code, _deidentify_detail(flag)) for flag in record.flags if flag.code not in hidden]
    return [(code, deidentify_text(sentence, record)) for code, sentence in messages]


def deidentify_flags(record: ResultRecord) -> list[str]:
    """Quality flags as sentences, without those that identify the patient."""
    return [f"{code}: {sentence}" for code, sentence in deidentify_messages(record)[record.failure is not None :]]


def remove_other_scan_names(record: ResultRecord) -> ResultRecord:
    """The record as it may be filed under its patient.

    No quality flag names another scan, whose folder may name another.
    """
    return record.with_flags(tuple(map(_remove_other_scan_name, record.flags)))


def remove_run_flags(record: ResultRecord) -> ResultRecord:
    """The record as any run would have given it.

    Without the quality flags that depend on the other scans of this one.
    """
    return record.with_flags(tuple(flag for flag in record.flags if flag.code not in RUN_DEPENDENT_DETAILS))


def _remove_other_scan_name(flag: QCFlag) -> QCFlag:
    detail = RUN_DEPENDENT_DETAILS.get(flag.code)
    return flag if detail is None else replace(flag, detail=detail, value=None)


def _deidentify_detail(flag: QCFlag) -> str:
    """A quality flag's sentence; of another scan that it names, the file's name.

    For an output that could not be written, without its path.
    """
    other = flag.value
    if flag.code == AUXILIARY_OUTPUT_CODE:
        return f"{other} has no output for this scan; the record gives the reason."
    return flag.detail.replace(other, Path(other).name) if isinstance(other, str) and other else flag.detail
