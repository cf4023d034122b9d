"""Whose scan is whose: a table with the columns ``scan`` and ``patient``."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ct3d_edge.errors import DatasetError
from ct3d_edge.formatting import plural
from ct3d_edge.scan.nifti_header import header_and_voxel_paths

COLUMNS = ("scan", "patient")
NAMED = 5
"""Scans or rows named in a message; more would hide its point."""


def read_patients(table: Path, scans: Sequence[str]) -> dict[str, str]:
    """Patient of every scan.

    Parameters
    ----------
    table
        CSV (UTF-8) whose first line names its columns; others than ``scan`` and ``patient`` do not count. A scan is
        named by its path relative to the data folder, or by its file name if no other scan has it.
    scans
        Paths relative to the data folder, with forward slashes.

    Raises
    ------
    DatasetError
        If the table cannot be read, lacks a column or a scan, names none or several with a row, or gives one scan
        two patients.
    """
    patients: dict[str, str] = {}
    named = _scans_by_name(scans)
    unknown = []
    for name, patient in _rows(table):
        found = named.get(_normal(name), [])
        if len(found) > 1:
            raise DatasetError(f"{table}: {name} could be any of {list_limited(found)}. Give its path.")
        if not found:
            unknown.append(name)
        elif patients.setdefault(found[0], patient) != patient:
            raise DatasetError(f"{table}: {name} has two patients, {patients[found[0]]} and {patient}.")
    if unknown:
        raise DatasetError(
            f"{table}: no scan of the folder is named by {plural(len(unknown), 'row')}: {list_limited(unknown)}."
        )
    missing = [scan for scan in scans if scan not in patients]
    if missing:
        raise DatasetError(f"{table} lacks {len(missing)} of {len(scans)} scans: {list_limited(missing)}.")
    return patients


def require_one_patient(duplicates: Mapping[str, str], patients: Mapping[str, str]) -> None:
    """Make sure that files of the same content belong to the same patient.

    Parameters
    ----------
    duplicates
        By path, the path of the scan with the same content.

    Raises
    ------
    DatasetError
        Naming both files and both patients.
    """
    for path, original in duplicates.items():
        if patients[path] != patients[original]:
            raise DatasetError(
                f"{path} and {original} have the same content, but the table gives them to two patients, "
                f"{patients[path]} and {patients[original]}. Correct the table."
            )


def list_limited(names: Sequence[str]) -> str:
    """Up to five names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _scans_by_name(scans: Sequence[str]) -> dict[str, list[str]]:
    """Scans by path and by file name. A path is never taken for a file name: it begins with its class folder."""
    named: dict[str, list[str]] = {scan: [scan] for scan in scans}
    for scan in scans:
        named.setdefault(PurePosixPath(scan).name, []).append(scan)
    return named


def _normal(name: str) -> str:
    """The path as scans are listed: without ``./``, and a .hdr/.img pair by its header."""
    return PurePosixPath(header_and_voxel_paths(Path(name))[0]).as_posix()


def _rows(table: Path) -> list[tuple[str, str]]:
    """Scan and patient of each row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets begin a file with a mark
            reader = csv.DictReader(stream, strict=True)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise DatasetError(f"{table} has no column {' and no column '.join(lacking)} in its first line.")
            rows = [tuple((row[name] or "").strip() for name in COLUMNS) for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"The table {table} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    for number, (scan, patient) in enumerate(rows, start=1):
        if not (scan and patient):
            raise DatasetError(f"{table}, row {number}: {'scan' if patient else 'patient'} is empty.")
    return [(scan, patient) for scan, patient in rows]
