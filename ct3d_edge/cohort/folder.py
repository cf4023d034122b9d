"""A folder of scans as it lies there: its classes, its scans, and which of them are the same."""

from collections.abc import Mapping
from pathlib import Path

from ct3d_edge.cohort.patients import NAMED
from ct3d_edge.cohort.split import Duplicate, LeftOut
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.scan import find_scans

CLASS_COUNT = 2


def class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in the order of the labels; one called ``normal`` comes first.

    Raises
    ------
    DatasetError
        If ``folder`` is no folder or does not hold exactly two; hidden ones do not count.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}.")
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise DatasetError(f"{folder} cannot be searched: {error.strerror or error}.") from error
    names.sort(key=lambda name: (name.casefold() != "normal", name))
    if len(names) != CLASS_COUNT:
        found = ", ".join(names) or "none"
        raise DatasetError(
            f"{folder} must hold exactly {CLASS_COUNT} folders, one a class; found {len(names)}: {found}."
        )
    return tuple(names)


def scans_of_class(folder: Path, name: str) -> list[str]:
    """Sorted paths of a class's scans relative to ``folder``, with forward slashes.

    Raises
    ------
    DatasetError
        If there are none, or a folder cannot be searched.
    """
    try:
        found = find_scans([folder / name], below=True)
    except UsageError as error:
        raise DatasetError(f"Class {name} has no scans: {error}") from error
    return sorted(path.relative_to(folder).as_posix() for path in found)


def find_duplicates(sha256: Mapping[str, str]) -> tuple[Duplicate, ...]:
    """Files whose content another one has, too; of each content, the first in the given order is kept.

    Raises
    ------
    DatasetError
        If the same content stands under two classes: one of the labels is wrong.
    """
    kept: dict[str, str] = {}
    duplicates = [Duplicate(path, kept[sha]) for path, sha in sha256.items() if kept.setdefault(sha, path) != path]
    clashes = [f"{d.path} and {d.of}" for d in duplicates if _class_of(d.path) != _class_of(d.of)]
    if clashes:
        named = "\n".join(f"  {clash}" for clash in clashes[:NAMED])
        raise DatasetError(
            f"Under both classes with the same content: {plural(len(clashes), 'scan')}. "
            f"Remove the wrong one of:\n{named}"
        )
    return tuple(sorted(duplicates, key=lambda duplicate: duplicate.path))


def refuse_unusable(unusable: tuple[LeftOut, ...], total: int) -> None:
    """Stop for scans that cannot be used.

    Raises
    ------
    DatasetError
        Naming all of them, if there are any.
    """
    if unusable:
        lines = [f"  {scan.path}: {scan.reason}" for scan in unusable]
        head = f"{len(unusable)} of {total} scans cannot be used. Mend or remove them, or leave them out (--skip-bad):"
        raise DatasetError("\n".join([head, *lines]))


def _class_of(path: str) -> str:
    return path.partition("/")[0]
