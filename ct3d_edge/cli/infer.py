"""``ct3d-edge infer``: scans in, probabilities out."""

import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.atomic import require_writable
from ct3d_edge.cli.folder_options import BatchOption, BudgetOption, TimeoutOption, WorkersOption, parse_size
from ct3d_edge.cli.options import (
    AllowOption,
    DeviceIdOption,
    FallbackOption,
    IdentifiersOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    ReceiptOption,
    SeriesOption,
    model_path,
)
from ct3d_edge.cli.tuned import NoTunedOption, find_choice, tuned_file, tuned_options
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ct3d_edge.cli.map_folder import MapFolder
    from ct3d_edge.pipeline import Analysis, Explanation, Model
    from ct3d_edge.report import Montage, ReportPage
    from ct3d_edge.results import Record, ResultsFile


class Format(StrEnum):
    """What is printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


def infer(
    paths: Annotated[list[Path], typer.Argument(help="Scans (.nii, .nii.gz, .hdr/.img, DICOM), or folders of them.")],
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: FallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    no_tuned: NoTunedOption = False,
    receipt: ReceiptOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write all records to this .jsonl or .csv file, once the run has ended."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="What is printed.")] = Format.TABLE,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that wrote --out and ended early.")
    ] = False,
    montage: Annotated[
        Path | None,
        typer.Option(
            "--montage", help="Also draw slices of each scan judged now, as the network sees it, to this PNG."
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain",
            metavar="DIR",
            help="Also write where the network looked: a map of each scan in its own space (.nii.gz), and a picture.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Also write one page for people (.html): table, pictures; with --explain, maps on them."
        ),
    ] = None,
    workers: WorkersOption = None,
    batch_size: BatchOption = 1,
    memory_budget: BudgetOption = None,
    scan_timeout: TimeoutOption = None,
    series: SeriesOption = None,
    allow: AllowOption = None,
    with_identifiers: IdentifiersOption = False,
) -> None:
    """Give every scan a probability for each class.

    A scan that cannot be read or judged gets a record with a code and a sentence; the others are not affected.
    """
    from ct3d_edge.cli.map_folder import MapFolder
    from ct3d_edge.cli.terminal import say, say_passed_over, say_receipt
    from ct3d_edge.passport import check_codes, permissible
    from ct3d_edge.pipeline import load_model
    from ct3d_edge.report import Montage, ReportPage
    from ct3d_edge.results import open_results
    from ct3d_edge.scan import search_scans

    if resume and not out:
        raise UsageError("--resume goes on with the run that wrote --out FILE; name that file.")
    allowed = check_codes(allow or ())
    budget = parse_size(memory_budget)
    tuned = find_choice(model_path(model), provider, device_id, no_tuned=no_tuned)
    options = tuned_options(tuned, provider, provider_option, device_id)
    if receipt:
        require_writable(receipt)
    picture = Montage(montage) if montage else None
    search = search_scans(paths, series)
    say_passed_over(search.passed_over)
    scans = search.scans
    maps = MapFolder(explain, scans) if explain else None
    records: list[Record] = []
    with open_results(out, resume=resume) if out else nullcontext() as kept:
        with load_model(
            model,
            provider,
            allow_fallback=allow_fallback,
            # Measured for one scan at a time; a folder divides the cores among its scans.
            threads=tuned.choice.candidate.threads if tuned and len(scans) == 1 else None,
            options=options,
            device_id=device_id,
            build=not no_build,
            on_build=say,
            **tuned_file(tuned),
            allow=allowed,
            with_identifiers=with_identifiers,
            explain=explain is not None,
        ) as opened:
            plan = opened.plan(len(scans), workers=workers, batch_size=batch_size, memory_budget=budget)
            say_receipt(opened.receipt)
            if receipt:
                opened.receipt.save(receipt)
            say(plan.describe())
            labels = opened.contract.labels
            begun = time.monotonic()
            analyses = opened.analyse_many(scans, plan, known=kept.known if kept else {}, seconds=scan_timeout)
            show = _Show(opened, picture, maps, ReportPage(report, opened.contract) if report else None)
            stop = _judge(analyses, len(scans), records, kept, show)
            seconds = time.monotonic() - begun
        if stop and not records:
            raise stop
        if kept and not stop:
            kept.finish(records, labels)
    _print(records, labels, format_)
    show.save(records)
    say(_summary(records, len(scans), seconds))
    if codes := permissible(record.failure.code for record in records if record.failure):
        say(f"answered all the same with: {' '.join(f'--allow {code}' for code in codes)}")
    if kept and stop:
        say(f"{kept.journal} holds them; go on with --resume")
    for path in filter(None, (None if stop else out, montage, explain, report, receipt)):
        say(f"wrote {path}")
    if stop:
        raise stop
    raise typer.Exit(0 if all(record.answered for record in records) else 1)


@dataclass(frozen=True)
class _Show:
    """What is drawn of each scan."""

    model: "Model"
    picture: "Montage | None"
    maps: "MapFolder | None"
    page: "ReportPage | None"

    def add(self, analysis: "Analysis") -> None:
        """Draw a scan; one whose record was known is prepared again if its pictures are wanted and not there."""
        record = analysis.record
        if self.picture and analysis.prepared:
            self.picture.add(record, analysis.prepared.volume)
        missing = self.page or (self.maps and not self.maps.has(record))
        if record.answered and missing and not analysis.prepared:
            analysis = self.model.again(record)
        explanation = self.model.explanation(analysis)
        if self.maps and explanation and analysis.prepared:
            self._write(self.maps, analysis, explanation)
        if self.page:
            volume = analysis.prepared.volume if analysis.prepared else None
            overlay = explanation.on_network_grid() if explanation else None
            self.page.add(record, volume, overlay, explanation.label if explanation else "")

    def save(self, records: "Sequence[Record]") -> None:
        """Write what shows all scans at once."""
        if self.picture:
            self.picture.save()
        if self.page:
            self.page.save(records, self.model.receipt.to_dict())

    def _write(self, maps: "MapFolder", analysis: "Analysis", explanation: "Explanation") -> None:
        from ct3d_edge.cli.terminal import say
        from ct3d_edge.errors import ScanError

        try:
            maps.add(analysis, explanation)
        except ScanError as error:  # its answer holds all the same
            say(f"not explained: {analysis.record.scan}: {error.code}: {error}")


def _judge(
    analyses: "Generator[Analysis, None, None]",
    scans: int,
    records: "list[Record]",
    kept: "ResultsFile | None",
    show: "_Show",
) -> BaseException | None:
    """Append a record a scan; what ended that early, if something did, so that the records are kept all the same."""
    from ct3d_edge.cli.terminal import track
    from ct3d_edge.errors import Ct3dError

    try:
        with closing(analyses):
            for analysis in track(analyses, scans, "Scans"):
                records.append(analysis.record)  # first: Ctrl-C while the journal is synced must not hide an answer
                if kept:
                    kept.add(analysis.record)
                show.add(analysis)
    except (KeyboardInterrupt, Ct3dError) as stop:
        return stop
    return None


def _print(records: "Sequence[Record]", labels: "Sequence[str]", format_: Format) -> None:
    from ct3d_edge.cli.terminal import out, printable
    from ct3d_edge.report import confidence_sentences, results_table
    from ct3d_edge.results import to_csv, to_jsonl

    if format_ is Format.JSONL:
        typer.echo(to_jsonl(records), nl=False)
    elif format_ is Format.CSV:
        typer.echo(to_csv(records, labels).encode("utf-8", "backslashreplace"), nl=False)
    else:
        console = out()
        console.print(results_table(records, labels, printable))
        if len(records) == 1:
            for sentence in confidence_sentences(records[0]):
                console.print(sentence, markup=False)


def _summary(records: "Sequence[Record]", scans: int, seconds: float) -> str:
    counts = {
        status: sum(record.status == status for record in records) for status in ("ok", "warn", "refused", "error")
    }
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    left = f"; {scans - len(records)} not reached" if len(records) < scans else ""
    return f"{len(records)} scans ({told}) in {seconds:.1f} s{left}"
