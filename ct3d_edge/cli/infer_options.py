"""Options that ``infer`` alone has, together as what is asked of a run, and what it prints of its records."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from ct3d_edge.cli.extra_outputs import ExtraOutput, FileNames
    from ct3d_edge.inference.config import InferenceConfig
    from ct3d_edge.results.record import ResultRecord
    from ct3d_edge.results.results_file import ResultsFile
    from ct3d_edge.results.shards import Shard


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
    int | None, typer.Option("--cpus-per-worker", min=1, help="With --engine ray: cores of one worker process, else 1.")
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
        help="Also write a DICOM structured report of each DICOM series that has a prediction, marked as not for "
        "clinical use. It names the patient, so it takes --include-phi.",
    ),
]
DicomScOption = Annotated[
    Path | None,
    typer.Option(
        "--dicom-sc",
        metavar="DIR",
        help="Experimental: also write slices of each DICOM series under their Grad-CAM map, as secondary captures. "
        "They name the patient: --include-phi.",
    ),
]
DicomPmOption = Annotated[
    Path | None,
    typer.Option(
        "--dicom-pm",
        metavar="DIR",
        help="Experimental: also write the Grad-CAM map of each DICOM series as a parametric map. It names the "
        "patient: --include-phi.",
    ),
]


@dataclass(frozen=True)
class OutputFolders:
    """Which files each scan gets, and where: those of options that are None are not written.

    Parameters
    ----------
    gradcam
        Maps as NIfTI files, and pictures.
    dicom_sr, dicom_sc, dicom_pm
        Structured reports, secondary captures and parametric maps of DICOM series.
    """

    gradcam: Path | None = None
    dicom_sr: Path | None = None
    dicom_sc: Path | None = None
    dicom_pm: Path | None = None

    @property
    def need_gradcam(self) -> bool:
        """Whether maps have to be computed."""
        return any((self.gradcam, self.dicom_sc, self.dicom_pm))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folders."""
        return tuple(filter(None, (self.gradcam, self.dicom_sr, self.dicom_sc, self.dicom_pm)))

    def open(
        self,
        scans: Sequence[Path],
        model: str,
        *,
        include_phi: bool,
        seconds: float | None,
        names: "FileNames | None" = None,
    ) -> "list[ExtraOutput]":
        """The outputs, with a line in the log on those of ``scans`` that will have none.

        Parameters
        ----------
        scans
            Of the run, as far as they are known.
        model
            Its name, as DICOM objects give it.
        include_phi
            Whether outputs may name the patient.
        seconds
            How long reading a series again may take.
        names
            Gives the files of a scan their names; by default those of the scans, numbered where they are the same.

        Raises
        ------
        UsageError, MissingExtraError
            If one could not be written.
        """
        if not self.paths:
            return []
        from ct3d_edge.cli.dicom_outputs import ParametricMapOutput, SecondaryCaptureOutput, StructuredReportOutput
        from ct3d_edge.cli.extra_outputs import unique_names
        from ct3d_edge.cli.gradcam_output import GradcamOutput

        names = names or unique_names(scans).__getitem__
        outputs: list[ExtraOutput] = [GradcamOutput(self.gradcam, names)] if self.gradcam else []
        kinds = (
            (StructuredReportOutput, self.dicom_sr),
            (SecondaryCaptureOutput, self.dicom_sc),
            (ParametricMapOutput, self.dicom_pm),
        )
        for kind, folder in kinds:
            if folder:
                output = kind(folder, names, model, include_phi=include_phi, seconds=seconds)
                output.log_other_scans(scans)
                outputs.append(output)
        return outputs


@dataclass(frozen=True)
class InferRun:
    """What is asked of a run, by the options of the same names; memory in bytes, the time limit in seconds."""

    model: Path | None
    config: "InferenceConfig"
    folders: OutputFolders
    montage: Path | None
    report: Path | None
    run_report: Path | None
    format_: OutputFormat
    out: Path | None
    resume: bool
    workers: int | None
    batch_size: int
    max_memory: int | None
    scan_timeout: float | None
    shard: "Shard | None"


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


def log_summary(
    records: "Sequence[ResultRecord]", scans: int, seconds: float, results_file: "ResultsFile | None"
) -> None:
    """Log how a run of ``scans`` ended, how many records of an earlier run it kept, and what would predict more."""
    from ct3d_edge.cli.terminal import log

    log(_summarize_run(records, scans, seconds))
    if results_file and results_file.reused:
        log(f"{plural(results_file.reused, 'record')} kept from an earlier run")
    _suggest_fixes(records)


def _summarize_run(records: "Sequence[ResultRecord]", scans: int, seconds: float) -> str:
    """How many of ``scans`` came to what, in one line."""
    counts = {
        status: sum(record.status == status for record in records) for status in ("ok", "warn", "refused", "error")
    }
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    left = f"; {scans - len(records)} not reached" if len(records) < scans else ""
    counted = f"{plural(len(records), 'scan')} ({summary})" if summary else "no scans"
    return f"{counted} in {seconds:.1f} s{left}"


def _suggest_fixes(records: "Sequence[ResultRecord]") -> None:
    """Log which downgrades would predict more scans, and which scans have missing outputs."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.quality_control.check_registry import downgradable_codes

    blocking = {code for record in records for code in _blocking_codes(record)}
    if codes := blocking and downgradable_codes(blocking):
        log(f"to predict them anyway: {' '.join(f'--downgrade-check {code}' for code in codes)}")
    options = [flag.value for record in records for flag in record.flags if flag.code == "auxiliary_output_failed"]
    for option in dict.fromkeys(options):
        scans = plural(options.count(option), "scan")
        log(f"{option} has no output of {scans}; the records give the reason (auxiliary_output_failed)")


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
