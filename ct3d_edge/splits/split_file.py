"""The split as JSON: canonical, so that equal splits are equal files, and parsed strictly."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ct3d_edge.contract import reject_non_finite_constant
from ct3d_edge.errors import DatasetError
from ct3d_edge.splits.split import SUBSETS, Duplicate, ExcludedScan, Split, SplitEntry
from ct3d_edge.system.atomic_write import atomic_file

SCHEMA = 2
"""Version of the JSON form; raised when the meaning of a field changes. Version 1 knew neither content nor test."""

SHA256_DIGITS = 64


def to_json(split: Split) -> str:
    """JSON for people to read and programs to compare: one file a line, what is None left out."""
    head = {
        "schema": SCHEMA,
        "seed": split.seed,
        "classes": split.classes,
        "fractions": {"validation": split.validation_fraction, "test": split.test_fraction},
        "folds": split.folds,
    }
    lists = {
        "entries": [_entry_data(entry) for entry in split.entries],
        "duplicates": [asdict(duplicate) for duplicate in split.duplicates],
        "left_out": [_given(asdict(scan)) for scan in split.left_out],
    }
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    lines += [f" {json.dumps(name)}: {_one_a_line(items)}" for name, items in lists.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def from_json(text: str) -> Split:
    """Parse what `to_json` wrote.

    Raises
    ------
    DatasetError
        If the text is no JSON object, of another schema version, lacks, misnames or mistypes a field, or
        contradicts itself.
    """
    try:
        data = json.loads(text, parse_constant=reject_non_finite_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"The split is not valid JSON ({error}).") from error
    version = data.get("schema") if isinstance(data, dict) else None
    if version != SCHEMA:
        raise DatasetError(
            f"The split has schema version {version!r}; this ct3d-edge reads version {SCHEMA}. "
            "Make the split again: ct3d-edge data split DIR --out split.json"
        )
    try:
        return _parse(_take(data, "schema seed classes fractions folds entries duplicates left_out"))
    except (TypeError, ValueError) as error:
        raise DatasetError(f"The split does not follow schema version {SCHEMA}: {error}.") from error


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


def _entry_data(entry: SplitEntry) -> dict[str, Any]:
    data = asdict(entry)
    return _given({("class" if name == "label" else name): value for name, value in data.items()})


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def _one_a_line(items: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in items) + "\n ]" if items else "[]"


def _parse(data: dict[str, Any]) -> Split:
    fractions = _take(data["fractions"], "validation test")
    return Split(
        classes=tuple(_text(name) for name in _list(data["classes"])),
        seed=_whole(data["seed"]),
        validation_fraction=_number(fractions["validation"]),
        test_fraction=_number(fractions["test"]),
        folds=None if data["folds"] is None else _whole(data["folds"]),
        entries=tuple(_entry(item) for item in _list(data["entries"])),
        duplicates=tuple(Duplicate(**_texts(item, "path of")) for item in _list(data["duplicates"])),
        left_out=tuple(ExcludedScan(**_texts(item, "path code reason", "sha256")) for item in _list(data["left_out"])),
    )


def _entry(item: Any) -> SplitEntry:
    data = _take(item, "path class sha256 subset", "fold patient")
    sha256, subset = _text(data["sha256"]), data["subset"]
    if len(sha256) != SHA256_DIGITS or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(f"{sha256!r} is no SHA-256")
    if subset not in SUBSETS:
        raise ValueError(f"{subset!r} is none of the subsets {', '.join(SUBSETS)}")
    fold = _whole(data["fold"]) if "fold" in data else None
    patient = _text(data["patient"]) if "patient" in data else None
    return SplitEntry(_text(data["path"]), _text(data["class"]), sha256, subset, fold, patient)


def _take(item: Any, required: str, optional: str = "") -> dict[str, Any]:
    """An object with exactly the fields that are due."""
    if not isinstance(item, dict):
        raise TypeError(f"expected an object, found {item!r}")
    missing, unknown = set(required.split()) - set(item), set(item) - set(f"{required} {optional}".split())
    if missing or unknown:
        raise ValueError(f"missing {sorted(missing)}, unknown {sorted(unknown)}")
    return item


def _texts(item: Any, required: str, optional: str = "") -> dict[str, str]:
    return {name: _text(value) for name, value in _take(item, required, optional).items()}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected text, found {value!r}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, found {value!r}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number, found {value!r}")
    return float(value)
