"""``sources.json``: where the scans of a folder come from, and what the archives were when they were first fetched."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ct3d_edge.atomic import atomic_file
from ct3d_edge.datasets.published.disk import disk_errors
from ct3d_edge.datasets.published.mosmed import Dataset
from ct3d_edge.errors import UsageError

SOURCES = "sources.json"
SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""


@dataclass(frozen=True)
class Record:
    """One archive, as it was when it was first fetched and unpacked.

    Parameters
    ----------
    url
        Where it came from.
    bytes
        Size of the archive.
    sha256
        Of the archive, in hexadecimal.
    date
        Day of its first success (UTC), ``YYYY-MM-DD``.
    licence
        Under which it was published.
    scans, scan_bytes
        What was unpacked from it.
    """

    url: str
    bytes: int
    sha256: str
    date: str
    licence: str
    scans: int
    scan_bytes: int


def read_records(folder: Path) -> dict[str, Record]:
    """Return the records by class name; none where nothing was fetched yet.

    Raises
    ------
    UsageError
        If the file is not one that `write_records` wrote.
    """
    path = folder / SOURCES
    if not path.exists():
        return {}
    try:
        with disk_errors(path):
            text = path.read_bytes()
        found = json.loads(text)
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r}")
        return {name: _parsed(record) for name, record in found["archives"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a record that this version of ct3d-edge wrote ({str(error)!a}). Move it away, and the "
            "folders of scans beside it, then run the same command again."
        ) from error


def _parsed(found: Mapping[str, object]) -> Record:
    values = {field.name: found[field.name] for field in fields(Record)}
    for field in fields(Record):
        if type(values[field.name]) is not field.type:  # bool is no int here
            raise TypeError(f"{field.name} is {values[field.name]!r}")
    return Record(**values)  # type: ignore[arg-type]


def write_records(folder: Path, dataset: Dataset, records: Mapping[str, Record]) -> None:
    """Write all records, complete or not at all.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "dataset": dataset.name,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "archives": {name: asdict(record) for name, record in records.items()},
    }
    with atomic_file(folder / SOURCES) as stream:
        stream.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
