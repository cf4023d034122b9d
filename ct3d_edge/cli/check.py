"""``ct3d-edge check``: the quality report of scans, without a model run."""

import json
from typing import TYPE_CHECKING

import typer

from ct3d_edge.cli.options import (
    ContractModelOption,
    DowngradeCheckOption,
    IncludePhiOption,
    JsonOption,
    ScansArgument,
    SeriesUidOption,
    load_contract,
)
from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct3d_edge.quality_control.checker import QualityReport

MAX_CODES_WIDTH = 32
"""Columns that codes take at most in a table of several scans; more codes go on the next line."""


def check(
    paths: ScansArgument,
    model: ContractModelOption = None,
    series: SeriesUidOption = None,
    allow: DowngradeCheckOption = None,
    include_phi: IncludePhiOption = False,
    json_: JsonOption = False,
) -> None:
    """Check the quality of scans.

    Names those that a model would refuse. The table shows all measured values of a single scan; of several, the checks
    that failed. --json prints everything.
    Scans are compared with those that a model was trained on only with --model.
    Ends with exit code 1 if a scan is refused or cannot be read.
    """
    from ct3d_edge.cli.terminal import log, log_skipped, track_progress
    from ct3d_edge.quality_control.check_registry import require_downgradable
    from ct3d_edge.quality_control.checker import QualityChecker
    from ct3d_edge.scan.discovery import discover_scans

    contract, downgraded = load_contract(model), require_downgradable(allow or ())
    search = discover_scans(paths, series)
    checker = QualityChecker(contract, downgraded, include_phi=include_phi, search_flags=search.flags)
    log_skipped(search.passed_over)
    if model is None:
        log("scans are compared with a model's training scans only with --model FILE")
    quality_reports = [checker.check(scan) for scan in track_progress(search.scans, len(search.scans), "Scans")]
    if json_:
        typer.echo(json.dumps([quality_report.to_dict() for quality_report in quality_reports], indent=2))
    elif len(quality_reports) == 1:
        _print_quality_report(quality_reports[0])
    else:
        _print_quality_reports(quality_reports)
    counts = {
        status: sum(each.status == status for each in quality_reports) for status in ("ok", "warn", "refused", "error")
    }
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    log(f"{plural(len(quality_reports), 'scan')} ({summary})")
    raise typer.Exit(1 if counts["refused"] or counts["error"] else 0)


def _print_quality_report(quality_report: "QualityReport") -> None:
    """Print the status of a single scan, then one row per check."""
    from rich.text import Text

    from ct3d_edge.cli.terminal import stdout_console
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import STATUS_STYLES, make_plain_table, shorten_names

    console = stdout_console()
    (name,) = shorten_names([quality_report.scan], console.width - len(": refused"))
    console.print(Text(f"{printable(name)}: ").append(quality_report.status, STATUS_STYLES[quality_report.status]))
    table = make_plain_table("check", "", "measured")
    table.columns[-1].overflow = "fold"
    for code, severity, detail in _flag_rows(quality_report):
        table.add_row(code, Text(severity, STATUS_STYLES[severity]), Text(printable(detail)))
    console.print(table)


def _print_quality_reports(quality_reports: "Sequence[QualityReport]") -> None:
    """Print one row per scan with the codes of its failed checks, then each message once."""
    from rich.text import Text

    from ct3d_edge.cli.terminal import stdout_console
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import STATUS_STYLES, group_messages, make_plain_table, shorten_names

    console, paths = stdout_console(), [quality_report.scan for quality_report in quality_reports]
    failed = [[row for row in _flag_rows(quality_report) if row[1] != "ok"] for quality_report in quality_reports]
    codes = [", ".join(dict.fromkeys(code for code, _, _ in rows)) for rows in failed]
    widest = min(max(map(len, codes)), MAX_CODES_WIDTH)
    names = list(map(printable, shorten_names(paths, console.width - widest - len("  status  "))))
    table = make_plain_table("scan", "status")
    table.columns[0].overflow = "fold"
    table.add_column("failed checks", overflow="fold")
    for name, quality_report, text in zip(names, quality_reports, codes, strict=True):
        table.add_row(Text(name), Text(quality_report.status, STATUS_STYLES[quality_report.status]), Text(text))
    console.print(table)
    messages = [[(f"{code} ({severity})", printable(detail)) for code, severity, detail in rows] for rows in failed]
    for note in group_messages(messages, paths):
        console.print(Text(note.format(names, console.width)))


def _flag_rows(quality_report: "QualityReport") -> "list[tuple[str, str, str]]":
    """Code, status and message of every flag; the error of a scan that could not be checked comes first."""
    from ct3d_edge.quality_control.checker import STATUS_OF_SEVERITY

    rows = [(flag.code, str(STATUS_OF_SEVERITY[flag.severity]), flag.detail) for flag in quality_report.flags]
    if quality_report.error:
        rows.insert(0, (quality_report.error[0], str(quality_report.failure_status), quality_report.error[1]))
    return rows
