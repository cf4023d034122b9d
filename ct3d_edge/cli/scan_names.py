"""Names for files that are written of scans: safe, and no two alike."""

import os
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

LONGEST = 200
"""Bytes of a name without number and ending; file systems take 255 in all."""


def unique_names(scans: Iterable[Path]) -> dict[Path, str]:
    """The scans' file names without their endings; of several that are the same, the later ones are numbered."""
    taken: set[str] = set()
    names: dict[Path, str] = {}
    for scan in scans:
        name = _name(scan)
        numbered = (f"{name}-{number}" for number in count(2))
        names[scan] = next(name for name in chain([name], numbered) if name.lower() not in taken)
        taken.add(names[scan].lower())
    return names


def _name(scan: Path) -> str:
    from ct3d_edge.scan import scan_name

    name = scan_name(scan) or scan.resolve().name or "scan"  # "." is a series, too
    while len(os.fsencode(name)) > LONGEST:
        name = name[:-1]
    return name
