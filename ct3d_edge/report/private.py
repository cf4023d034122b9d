"""What of a record may be shown to anybody: no patient's name or ID, no place on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from ct3d_edge.report.table import short_names
from ct3d_edge.results import Record
from ct3d_edge.scan import Finding

IDENTIFIERS = "identifiers"
"""Code of the finding that holds a patient's name and ID."""


def public_names(scans: Sequence[str]) -> list[str]:
    """File names where they are unique, else what differs of the paths: never a path from the root."""
    names = short_names(scans)
    if names != list(scans):
        return names
    parents = {str(Path(scan).parent) for scan in scans}
    same = [Path(scan).is_absolute() for scan in scans]
    if not scans or any(same) != all(same):
        return [Path(scan).name for scan in scans]
    try:
        common = os.path.commonpath(parents)
    except ValueError:  # different drives
        return [Path(scan).name for scan in scans]
    return [str(Path(scan).relative_to(common or ".")) for scan in scans]


def public_text(text: str, record: Record) -> str:
    """A sentence about a scan without the folder that the scan lies in."""
    parent = str(Path(record.scan).parent)
    if parent in (".", os.sep):
        return text
    for folder in (os.path.abspath(parent), parent):  # noqa: PTH100  # resolve() would follow links
        text = text.replace(folder + os.sep, "").replace(folder, Path(folder).name)
    return text


def public_findings(record: Record) -> list[str]:
    """Findings as sentences, without those that say who the patient is."""
    failed = record.failure.code if record.failure else None
    shown = [finding for finding in record.findings if finding.code not in (IDENTIFIERS, failed)]
    return [public_text(f"{finding.code}: {_detail(finding)}", record) for finding in shown]


def _detail(finding: Finding) -> str:
    """A finding's sentence; of another scan that it names, the file's name."""
    other = finding.value
    return finding.detail.replace(other, Path(other).name) if isinstance(other, str) and other else finding.detail
