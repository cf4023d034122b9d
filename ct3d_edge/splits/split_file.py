"""The split as JSON: canonical, so that equal splits are equal files, and parsed strictly."""

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ct3d_edge.errors import DatasetError
from ct3d_edge.json_validation import Fraction, Text, convert, parse_object
from ct3d_edge.splits.split import Duplicate, ExcludedScan, Split, SplitEntry
from ct3d_edge.system.atomic_write import atomic_file

SCHEMA = 2
"""Version of the JSON form; raised when the meaning of a field changes. Version 1 knew neither content nor test."""


class _Fractions(Struct, forbid_unknown_fields=True):
    validation: Fraction
    test: Fraction


class _SplitFile(Struct, forbid_unknown_fields=True):
    """The JSON form, in the order of its fields."""

    schema: int
    seed: int
    classes: tuple[Text, ...]
    fractions: _Fractions
    folds: int | None
    entries: tuple[SplitEntry, ...]
    duplicates: tuple[Duplicate, ...]
    left_out: tuple[ExcludedScan, ...]


def to_json(split: Split) -> str:
    """JSON for people to read and programs to compare: one file a line, what is None left out."""
    fractions = _Fractions(split.validation_fraction, split.test_fraction)
    lists = (split.entries, split.duplicates, split.left_out)
    data = msgspec.to_builtins(_SplitFile(SCHEMA, split.seed, split.classes, fractions, split.folds, *lists))
    lines = [f" {json.dumps(name)}: {_dump_value(value)}" for name, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _dump_value(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
    return json.dumps(value)


def from_json(text: str) -> Split:
    """Parse what `to_json` wrote.

    Raises
    ------
    DatasetError
        If the text is no JSON object, of another schema version, lacks, misnames or mistypes a field, or
        contradicts itself.
    """
    data = parse_object(text, "The split", DatasetError)
    if data.get("schema") != SCHEMA:
        raise DatasetError(
            f"The split has schema version {data.get('schema')!r}; this ct3d-edge reads version {SCHEMA}. "
            "Make the split again: ct3d-edge data split DIR --out split.json"
        )
    file = convert(data, _SplitFile, "The split", DatasetError)
    return Split(
        classes=file.classes,
        seed=file.seed,
        validation_fraction=file.fractions.validation,
        test_fraction=file.fractions.test,
        folds=file.folds,
        entries=file.entries,
        duplicates=file.duplicates,
        left_out=file.left_out,
    )


def read_split(path: Path) -> Split:
    """Read a split file.

    Raises
    ------
    DatasetError
        If it cannot be read, or as for `from_json`; with its path.
    """
    try:
        return from_json(path.read_text("utf-8-sig"))  # some editors begin a file with a byte order mark
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"The split {path} cannot be read: {reason}.") from error
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def write_split(path: Path, split: Split) -> None:
    """Write a split file, complete or not at all.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    with atomic_file(path) as stream:
        stream.write(to_json(split).encode())
