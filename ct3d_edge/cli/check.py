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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ct3d_edge.passport import Passport


def check(
    paths: Annotated[list[Path], typer.Argument(help="Scans (.nii, .nii.gz, .hdr/.img, DICOM), or folders of them.")],
    model: ContractModelOption = None,
    series: SeriesOption = None,
    allow: AllowOption = None,
    with_identifiers: IdentifiersOption = False,
    json_: JsonOption = False,
) -> None:
    """Print each scan's passport: what was measured, and whether a model may judge it.

    The table shows all measured values of a single scan; of several, what is not in order. --json shows everything.
    Ends with exit code 1 if a scan is refused or cannot be read.
    """
    from ct3d_edge.cli.terminal import out, say, say_passed_over, track
    from ct3d_edge.passport import Inspector, check_codes
    from ct3d_edge.scan import search_scans

    inspector = Inspector(contract_of(model), check_codes(allow or ()), with_identifiers=with_identifiers)
    search = search_scans(paths, series)
    say_passed_over(search.passed_over)
    passports = [inspector.inspect(scan) for scan in track(search.scans, len(search.scans), "Scans")]
    if json_:
        typer.echo(json.dumps([passport.to_dict() for passport in passports], indent=2))
    else:
        out().print(_table(passports))
    counts = {verdict: sum(each.verdict == verdict for each in passports) for verdict in ("ok", "warn", "refuse")}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    say(f"{len(passports)} scans ({told})")
    raise typer.Exit(1 if counts["refuse"] else 0)


def _table(passports: "Sequence[Passport]") -> "Table":
    """One row a finding; of several scans, only of what is not in order."""
    from rich.table import Table
    from rich.text import Text

    from ct3d_edge.cli.terminal import printable
    from ct3d_edge.report import short_names

    styles = {"ok": "green", "warn": "yellow", "refuse": "red", "refused": "red", "error": "red"}
    table = Table(header_style="bold")
    for name in ("scan", "verdict", "check", "", "measured"):
        table.add_column(name, overflow="fold")
    for name, passport in zip(short_names([each.scan for each in passports]), passports, strict=True):
        said = [finding for finding in passport.findings if len(passports) == 1 or finding.severity != "ok"]
        rows: list[tuple[str, str, str]] = [(finding.code, finding.severity, finding.detail) for finding in said]
        if passport.error:
            rows = [(passport.error[0], passport.status or "error", passport.error[1]), *rows]
        rows = rows or [("", "ok", f"All of {len(passport.findings)} measured values are within their limits.")]
        heads = [[Text(printable(name)), Text(passport.verdict, styles[passport.verdict])]]
        heads += [[Text(), Text()] for _ in rows[1:]]
        for head, (code, severity, detail) in zip(heads, rows, strict=True):
            table.add_row(*head, Text(code), Text(severity, styles[severity]), Text(printable(detail)))
        table.add_section()
    return table
