"""``ct3d-edge preprocess``: what the network would be given, as .npy files."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import (
    ContractModelOption,
    DowngradeCheckOption,
    ScansArgument,
    SeriesUidOption,
    load_contract,
)
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.contract import Contract
    from ct3d_edge.scan.qc_flag import QCFlag


def preprocess(
    paths: ScansArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the .npy files; made if it is not there.")],
    model: ContractModelOption = None,
    series: SeriesUidOption = None,
    allow: DowngradeCheckOption = None,
) -> None:
    """Write each scan's network input as a float32 .npy file.

    The files are named after the scans. Without --model it follows the default contract: 128 x 128 x 64, HU -1000 to
    400, orientation LAS.
    """
    import numpy as np

    from ct3d_edge.cli.terminal import log, log_skipped, track_progress
    from ct3d_edge.errors import ScanError
    from ct3d_edge.quality_control.check_registry import require_downgradable
    from ct3d_edge.scan.discovery import discover_scans
    from ct3d_edge.scan.qc_flag import apply_overrides
    from ct3d_edge.system.atomic_write import atomic_file, make_folder

    contract, allowed = load_contract(model), require_downgradable(allow or ())
    search = discover_scans(paths, series)
    log_skipped(search.passed_over)
    targets = _output_paths(search.scans, out)
    make_folder(out)
    failed = 0
    for target, scan in track_progress(targets.items(), len(targets), "Scans"):
        try:
            volume, flags = _prepare(scan, contract, allowed)
        except ScanError as error:
            failed += 1
            log(f"{scan}: {error.code}: {error}")
            continue
        for flag in (*flags, *apply_overrides(search.flags.get(str(scan), ()), allowed)):
            if flag.severity != "ok":
                log(f"{scan}: {flag.code}: {flag.detail}")
        with atomic_file(target) as stream:
            np.save(stream, volume)
    log(f"wrote {len(targets) - failed} of {len(targets)} scans to {out}")
    raise typer.Exit(1 if failed else 0)


def _prepare(
    scan: Path, contract: "Contract", allowed: Collection[str]
) -> "tuple[NDArray[np.float32], tuple[QCFlag, ...]]":
    """The network input of a scan, and its flags of reading and of how its slices lie; a refused scan is an error."""
    from ct3d_edge.preprocessing import preprocess as prepare
    from ct3d_edge.quality_control.voxel_checks import arrangement_flags
    from ct3d_edge.scan.loader import open_scan
    from ct3d_edge.scan.qc_flag import apply_overrides, raise_if_refused

    opened = open_scan(scan, allow=allowed)
    prepared = prepare(opened, contract)
    # `open_scan` applied the overrides to the flags of the file.
    added = (*prepared.flags[len(opened.flags) :], *arrangement_flags(opened, prepared, contract))
    flags = (*opened.flags, *apply_overrides(added, allowed))
    raise_if_refused(flags)
    return prepared.volume, flags


def _output_paths(scans: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Output file to scan; two scans of one name would overwrite each other."""
    from ct3d_edge.scan.discovery import scan_name

    targets: dict[Path, Path] = {}
    for scan in scans:
        target = out / f"{scan_name(scan)}.npy"
        if target in targets:
            raise UsageError(f"{targets[target]} and {scan} would both be written to {target}. Do them one at a time.")
        targets[target] = scan
    return targets
