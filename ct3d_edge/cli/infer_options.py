"""Options that ``infer`` alone has: what is printed, and what is written besides."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What is printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Also write all records to this .jsonl or .csv file, once the run has ended."),
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="What is printed.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run that wrote --out and ended early.")]
MontageOption = Annotated[
    Path | None,
    typer.Option("--montage", help="Also draw slices of each scan judged now, as the network sees it, to this PNG."),
]
ExplainOption = Annotated[
    Path | None,
    typer.Option(
        "--explain",
        metavar="DIR",
        help="Also write where the network looked: a map of each scan in its own space (.nii.gz), and a picture.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Also write one page for people (.html): table, pictures; with --explain, maps on them."
    ),
]
DicomSrOption = Annotated[
    Path | None,
    typer.Option(
        "--dicom-sr",
        metavar="DIR",
        help="Also write a DICOM structured report of each DICOM series that has an answer, marked as not for clinical "
        "use. It names the patient, so it takes --with-identifiers.",
    ),
]
