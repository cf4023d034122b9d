"""Options that say how many scans are worked on at once."""

from typing import Annotated

import typer

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
