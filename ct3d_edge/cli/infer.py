"""``ct3d-edge infer``: scans in, probabilities out."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import (
    DeviceIdOption,
    FallbackOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    ReceiptOption,
    model_path,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct3d_edge.report import Montage
    from ct3d_edge.results import Record
    from ct3d_edge.runtime import Runner
    from ct3d_edge.scan import Finding


DEMONSTRATION = "This model learned from drawn chests; of a patient its answer means nothing."


class Format(StrEnum):
    """What is printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


def infer(
    paths: Annotated[list[Path], typer.Argument(help="Scans (.nii, .nii.gz, .hdr/.img), or folders of them.")],
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: FallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    receipt: ReceiptOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write all records to this .jsonl or .csv file.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="What is printed.")] = Format.TABLE,
    montage: Annotated[
        Path | None,
        typer.Option("--montage", help="Also draw slices of each scan, as the network sees it, to this PNG."),
    ] = None,
) -> None:
    """Give every scan a probability for each class.

    A scan that cannot be read or judged gets a record with a code and a sentence; the others are not affected.
    """
    from ct3d_edge.cli.running import open_runner
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.report import Montage
    from ct3d_edge.results import check_results_path, write_results
    from ct3d_edge.runtime import load_model_file
    from ct3d_edge.scan import Finding, find_scans

    if out:
        check_results_path(out)
    picture = Montage(montage) if montage else None
    scans = find_scans(paths)
    records: list[Record] = []
    file = load_model_file(model_path(model))
    with open_runner(file, provider, allow_fallback, provider_option, device_id, no_build, receipt) as runner:
        labels = runner.contract.labels
        notes = (Finding("demonstration_model", "warn", DEMONSTRATION),) if model is None else ()
        stop = _judge(scans, runner, notes, records, picture)
    if stop and not records:
        raise stop
    _print(records, labels, format_)
    if out:
        write_results(out, records, labels)
    if picture:
        picture.save()
    say(_summary(records, len(scans)))
    for path in filter(None, (out, montage)):
        say(f"wrote {path}")
    if stop:
        raise stop
    raise typer.Exit(0 if all(record.answered for record in records) else 1)


def _judge(
    scans: list[Path],
    runner: "Runner",
    notes: "tuple[Finding, ...]",
    records: "list[Record]",
    picture: "Montage | None",
) -> BaseException | None:
    """Append a record a scan; what ended that early, if something did, so that the records are kept all the same."""
    from ct3d_edge.cli.terminal import track
    from ct3d_edge.errors import Ct3dError
    from ct3d_edge.pipeline import analyse

    try:
        for analysis in track(analyse(scans, runner, notes), len(scans), "Scans"):
            records.append(analysis.record)
            if picture and analysis.prepared:
                picture.add(analysis.record, analysis.prepared.volume)
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


def _summary(records: "Sequence[Record]", scans: int) -> str:
    counts = {
        status: sum(record.status == status for record in records) for status in ("ok", "warn", "refused", "error")
    }
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    seconds = sum(record.timing.total for record in records) / 1e3
    left = f"; {scans - len(records)} not reached" if len(records) < scans else ""
    return f"{len(records)} scans ({told}) in {seconds:.1f} s{left}"
