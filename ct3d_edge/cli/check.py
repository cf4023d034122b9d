"""``ct3d-edge check``: what is known of scans before a model judges them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import (
    AllowOption,
    ContractModelOption,
    IdentifiersOption,
    JsonOption,
    SeriesOption,
    contract_of,
)
from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct3d_edge.quality_control.checker import Passport

WIDEST_CODES = 32
"""Columns that codes take at most in a table of several scans; more codes go on the next line."""


def check(
    paths: Annotated[
        list[Path], typer.Argument(readable=False, help="Scans (.nii, .nii.gz, .hdr/.img, DICOM), or folders of them.")
    ],
    model: ContractModelOption = None,
    series: SeriesOption = None,
    allow: AllowOption = None,
    with_identifiers: IdentifiersOption = False,
    json_: JsonOption = False,
) -> None:
    """Measure scans and tell which of them a model may judge.

    The table shows all measured values of a single scan; of several, what is not in order. --json shows everything.
    Ends with exit code 1 if a scan is refused or cannot be read.
    """
    from ct3d_edge.cli.terminal import say, say_passed_over, track
    from ct3d_edge.quality_control.check_registry import check_codes
    from ct3d_edge.quality_control.checker import Inspector
    from ct3d_edge.scan.discovery import search_scans

    inspector = Inspector(contract_of(model), check_codes(allow or ()), with_identifiers=with_identifiers)
    search = search_scans(paths, series)
    say_passed_over(search.passed_over)
    passports = [inspector.inspect(scan) for scan in track(search.scans, len(search.scans), "Scans")]
    if json_:
        typer.echo(json.dumps([passport.to_dict() for passport in passports], indent=2))
    elif len(passports) == 1:
        _print_passport(passports[0])
    else:
        _print_several(passports)
    counts = {verdict: sum(each.verdict == verdict for each in passports) for verdict in ("ok", "warn", "refuse")}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    say(f"{plural(len(passports), 'scan')} ({told})")
    raise typer.Exit(1 if counts["refuse"] else 0)


def _print_passport(passport: "Passport") -> None:
    """Verdict of a single scan, then one row a measured value."""
    from rich.text import Text

    from ct3d_edge.cli.terminal import out
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import STYLES, plain_table, row_names

    console = out()
    (name,) = row_names([passport.scan], console.width - len(": refuse"))
    console.print(Text(f"{printable(name)}: ").append(passport.verdict, STYLES[passport.verdict]))
    table = plain_table("check", "", "measured")
    table.columns[-1].overflow = "fold"
    for code, severity, detail in _rows(passport):
        table.add_row(code, Text(severity, STYLES[severity]), Text(printable(detail)))
    console.print(table)


def _print_several(passports: "Sequence[Passport]") -> None:
    """One row a scan with the codes of what is not in order, then each message once."""
    from rich.text import Text

    from ct3d_edge.cli.terminal import out
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import STYLES, group_messages, plain_table, row_names

    console, paths = out(), [passport.scan for passport in passports]
    wrong = [[row for row in _rows(passport) if row[1] != "ok"] for passport in passports]
    codes = [", ".join(dict.fromkeys(code for code, _, _ in rows)) for rows in wrong]
    widest = min(max(map(len, codes)), WIDEST_CODES)
    names = list(map(printable, row_names(paths, console.width - widest - len("  verdict  "))))
    table = plain_table("scan", "verdict")
    table.columns[0].overflow = "fold"
    table.add_column("not in order", overflow="fold")
    for name, passport, text in zip(names, passports, codes, strict=True):
        table.add_row(Text(name), Text(passport.verdict, STYLES[passport.verdict]), Text(text))
    console.print(table)
    said = [[(f"{code} ({severity})", printable(detail)) for code, severity, detail in rows] for rows in wrong]
    for note in group_messages(said, paths):
        console.print(Text(note.format(names, console.width)))


def _rows(passport: "Passport") -> "list[tuple[str, str, str]]":
    """Code, severity and sentence of everything measured; first, why a scan could not be read."""
    rows = [(finding.code, str(finding.severity), finding.detail) for finding in passport.findings]
    if passport.error:
        rows.insert(0, (passport.error[0], passport.status or "error", passport.error[1]))
    return rows
