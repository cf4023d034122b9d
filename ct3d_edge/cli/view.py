"""``ct3d-edge view``: a scan as the network sees it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.cli.options import ContractModelOption, SeriesUidOption, load_contract, resolve_single_scan
from ct3d_edge.errors import UsageError
from ct3d_edge.system.atomic_write import require_writable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.contract import Contract

RandomAugmentationName = Literal["six-angles", "small-changes"]
"""Augmentations of which there is something to see."""


def view(
    scan: Annotated[Path, typer.Argument(help="A scan (NIfTI, MetaImage, NRRD, a DICOM file or folder).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")],
    rows: Annotated[int, typer.Option(min=1, help="Of the grid of slices.")] = 4,
    columns: Annotated[int, typer.Option(min=1, help="Of the grid of slices.")] = 10,
    slice_: Annotated[
        int | None, typer.Option("--slice", help="One slice instead, counted from 0; -1 is the last.")
    ] = None,
    augmented: Annotated[
        RandomAugmentationName | None,
        typer.Option(help="Draw what training may show the network instead of the scan itself."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of --augmented, 0 if left out; each draws another.")] = None,
    model: ContractModelOption = None,
    series: SeriesUidOption = None,
) -> None:
    """Draw the slices of a scan after preprocessing.

    That is all that the network is given.
    """
    if seed is not None and augmented is None:
        raise UsageError("--seed draws an augmentation; say which with --augmented six-angles or small-changes.")
    require_writable(out)
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.preprocessing import preprocess
    from ct3d_edge.report.montage import extract_slice, make_slice_grid, save_png
    from ct3d_edge.scan.loader import open_scan

    contract = load_contract(model)
    # Whatever is wrong with a scan, a person may look at it.
    prepared = preprocess(open_scan(resolve_single_scan(scan, series), raise_refused=False), contract)
    for flag in prepared.flags:
        log(f"{flag.code}: {flag.detail}")
    volume = prepared.volume if augmented is None else _augment(prepared.volume, augmented, seed or 0, contract)
    save_png(make_slice_grid(volume, rows, columns) if slice_ is None else extract_slice(volume, slice_), out)
    log(f"wrote {out}")


def _augment(
    volume: "NDArray[np.float32]", name: RandomAugmentationName, seed: int, contract: "Contract"
) -> "NDArray[np.float32]":
    import numpy as np

    from ct3d_edge.augmentation.registry import get_augmentation

    return get_augmentation(name, contract)(volume, np.random.default_rng(seed))
