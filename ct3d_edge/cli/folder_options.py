"""Options that say how many scans are worked on at once, and how their text becomes values."""

import re
from typing import Annotated

import typer

from ct3d_edge.errors import UsageError

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Scans worked on at the same time; from cores and memory if left out."),
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Scans in one run of the network; more than 1 helps on a GPU only.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--memory-budget", help="What the scans in flight may take, e.g. 2GB; else half of what is free."),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--scan-timeout", min=0.001, help="Seconds after which a scan is given up and named; never if left out."
    ),
]

UNITS = {"": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_size(text: str | None) -> int | None:
    """Bytes from a number with a unit: ``500MB``, ``1.5 GiB``.

    Raises
    ------
    UsageError
        If it is none, or nothing.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) == 0:
        raise UsageError(f"A memory budget is a number with a unit, e.g. 500MB or 2GB; found {text!r}.")
    return int(float(found[1]) * unit)
