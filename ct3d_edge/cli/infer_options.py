"""Options that ``infer`` alone has, and what it prints of its records."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from ct3d_edge.results.record import ResultRecord


class OutputFormat(StrEnum):
    """What is printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Also write all records to this .jsonl, .csv or .parquet file, once the run has ended."
    ),
]
FormatOption = Annotated[OutputFormat, typer.Option("--format", "-f", help="What is printed.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run that wrote --out and ended early.")]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Only part I of N of the scans, by a hash of their paths; see `merge`."
    ),
]
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="`ray`: on the machines of a Ray cluster (docs/scale.md).")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="With --engine ray: of a running cluster; without it this machine.")
]
CpusPerWorkerOption = Annotated[
    int, typer.Option("--cpus-per-worker", min=1, help="With --engine ray: cores of one worker process.")
]
MontageOption = Annotated[
    Path | None,
    typer.Option("--montage", help="Also draw slices of each scan predicted now, as the network sees it, to this PNG."),
]
GradcamDirOption = Annotated[
    Path | None,
    typer.Option(
        "--gradcam-dir",
        metavar="DIR",
        help="Experimental: also write a Grad-CAM map of each scan in its own space (.nii.gz), and a picture.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Also write one page for people (.html): table, pictures; with --gradcam-dir, maps on them."
    ),
]
DicomSrOption = Annotated[
    Path | None,
    typer.Option(
        "--dicom-sr",
        metavar="DIR",
        help="Also write a DICOM structured report of each DICOM series that has an answer, marked as not for clinical "
        "use. It names the patient, so it takes --include-phi.",
    ),
]


def print_record(record: "ResultRecord", labels: "Sequence[str]", format_: OutputFormat, *, first: bool) -> None:
    """Print a record on standard output as soon as it is there, where the format has a line for each."""
    from ct3d_edge.results.formats import to_csv, to_jsonl

    if format_ is OutputFormat.JSONL:
        typer.echo(to_jsonl([record]), nl=False)
    elif format_ is OutputFormat.CSV:
        lines = to_csv([record], labels)
        row = lines if first else lines.removeprefix(to_csv([], labels))
        typer.echo(row.encode("utf-8", "backslashreplace"), nl=False)


def print_results_table(records: "Sequence[ResultRecord]", labels: "Sequence[str]", format_: OutputFormat) -> None:
    """Print all records as a table for people, unless they were printed one by one; of a single one also sentences."""
    if format_ is not OutputFormat.TABLE:
        return
    from ct3d_edge.cli.terminal import print_lines, stdout_console
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import format_confidences, make_results_table

    console = stdout_console()
    console.print(make_results_table(records, labels, printable, console.width))
    if len(records) == 1:
        print_lines(format_confidences(records[0]))


def summarize_run(records: "Sequence[ResultRecord]", scans: int, seconds: float) -> str:
    """How many of ``scans`` came to what, in one line."""
    counts = {
        status: sum(record.status == status for record in records) for status in ("ok", "warn", "refused", "error")
    }
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    left = f"; {scans - len(records)} not reached" if len(records) < scans else ""
    counted = f"{plural(len(records), 'scan')} ({summary})" if summary else "no scans"
    return f"{counted} in {seconds:.1f} s{left}"


def suggest_fixes(records: "Sequence[ResultRecord]") -> None:
    """Log which downgrades would predict more scans, and which scans have missing outputs."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.quality_control.check_registry import downgradable_codes

    blocking = {code for record in records for code in _blocking_codes(record)}
    if codes := blocking and downgradable_codes(blocking):
        log(f"answered all the same with: {' '.join(f'--downgrade-check {code}' for code in codes)}")
    options = [flag.value for record in records for flag in record.flags if flag.code == "auxiliary_output_failed"]
    for option in dict.fromkeys(options):
        scans = plural(options.count(option), "scan")
        log(f"{option} has nothing of {scans}; the records say why (auxiliary_output_failed)")


MIN_SLICES_FOR_PREDICTION = 4
"""Between fewer slices than this nearly all that a network would be shown is interpolated."""


def _blocking_codes(record: "ResultRecord") -> list[str]:
    """Codes to downgrade for a prediction of a refused scan; empty if none would help."""
    from ct3d_edge.quality_control.check_registry import downgradable_codes

    if record.failure is None:
        return []
    refusing = {flag.code: flag.value for flag in record.flags if flag.severity == "refuse"}
    codes = {record.failure.code, *refusing}
    slices = refusing.get("too_few_slices")
    hopeless = isinstance(slices, int | float) and slices < MIN_SLICES_FOR_PREDICTION
    return [] if hopeless or len(downgradable_codes(codes)) < len(codes) else sorted(codes)
