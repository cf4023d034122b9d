"""``ct3d-edge merge``: the results of the shards of a run, put together."""

from pathlib import Path
from typing import Annotated

import typer

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import list_names, plural


def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="RESULTS.jsonl...", help="What `infer --shard` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="All records, as .jsonl, .csv or .parquet.")],
    scans: Annotated[
        list[Path] | None,
        typer.Option("--input", "-i", help="Scans or folders of the run: missing ones are named; repeatable."),
    ] = None,
) -> None:
    """Merge the results of `infer --shard` into one file.

    Results of another model, contract or precision are refused. Ends with exit code 1 if records are missing or
    scans have no prediction.
    """
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.results.formats import check_results_path, write_results
    from ct3d_edge.results.journal import read_journal
    from ct3d_edge.results.shards import merge_records
    from ct3d_edge.scan.discovery import find_scans

    check_results_path(out)
    for path in shards:
        _require_finished(path)
    if twice := [str(path) for path in dict.fromkeys(shards) if shards.count(path) > 1]:
        log(f"named more than once, read once: {list_names(twice)}")
    records = {str(path): list(read_journal(path)) for path in shards}
    merged = merge_records(records, [str(scan) for scan in find_scans(scans)] if scans else None)
    if not merged.records:
        raise UsageError("There is no record in these files.")
    labels = next((list(dict(each.prediction.probability)) for each in merged.records if each.prediction), [])
    write_results(out, merged.records, labels)
    if merged.repeated:
        log(f"{plural(len(merged.repeated), 'scan')} in several files, taken once: {list_names(merged.repeated)}")
    if merged.missing:
        log(f"missing: {plural(len(merged.missing), 'scan')} without a record: {list_names(merged.missing)}")
    if not scans:
        log("Missing shards and scans are named with --input FOLDER only.")
    log(f"wrote {out}: {plural(len(merged.records), 'record')} of {plural(len(records), 'file')}")
    complete = not merged.missing and all(record.has_prediction for record in merged.records)
    raise typer.Exit(0 if complete else 1)


def _require_finished(path: Path) -> None:
    """Refuse what is no results file, and a shard whose run ended early."""
    from ct3d_edge.results.results_file import JOURNAL_SUFFIX

    journal = path.with_name(path.name + JOURNAL_SUFFIX)
    if journal.exists() and journal.stat().st_size:
        raise UsageError(
            f"The run that writes {path} is not finished: {journal} holds its records. Go on with --resume."
        )
    if path.suffix.lower() != ".jsonl":
        raise UsageError(f"Records are merged from .jsonl files, which hold all of a record; found {path}.")
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
