"""How many scans does the orientation check refuse, as they are and in each of the 48 orientations?

    python -m bench.orientation [FOLDER ...]

Each scan is declared to lie in each orientation that an affine can name: its voxels stay, its file says something else.
Prints how many of them are refused (`orientation_mismatch`) by what is exchanged, and how many others are flagged since
their table lies in front; then in how many pixels the table was found behind and before each body as the file declares
it. Without folders it makes the 20 phantoms of seed 900 on which the limits were set (`data synth --num-scans 20 --seed
900 --shape 192 192 40`).
"""

import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff

from bench.scans import resolve_scans
from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.anatomy_checks import (
    BodyAxesView,
    count_table_pixels,
    has_table_in_front,
    orientation_contradiction,
    view_body_axes,
)
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.volume import Scan

AXES = ("LR", "AP", "SI")
ORIENTATIONS = ["".join(code) for axes in itertools.permutations(AXES) for code in itertools.product(*axes)]
PHANTOMS, SEED, SHAPE = 20, 900, (192, 192, 40)
NAMES = {"LR": "left and right", "AP": "front and back", "SI": "head and foot"}
CONTRACT = Contract()


def main(folders: Sequence[str]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as place, ProcessPoolExecutor() as pool:
        if not folders:
            synthesise(Path(place), PHANTOMS, SEED, shape=SHAPE)
        scans = resolve_scans(folders or [f"{place}/scans"], Path(place))
        tried, refused, flagged = Counter[str](), Counter[str](), Counter[str]()
        tables = list(pool.map(measure_table, scans))
        for outcome in pool.map(check_orientations, scans):
            for exchanged, contradicted, turned in outcome:
                tried[exchanged] += 1
                refused[exchanged] += contradicted
                flagged[exchanged] += turned
    for exchanged, count in sorted(tried.items(), key=lambda each: each[1]):
        print(f"{exchanged:45} {refused[exchanged]:4} of {count}, {flagged[exchanged]:4} flagged")
    for side, counts in zip(("behind", "before"), zip(*tables, strict=True), strict=True):
        print(f"pixels of a table {side} the body: {', '.join(map(str, sorted(counts)))}")


def check_orientations(path: Path) -> list[tuple[str, bool, bool]]:
    """What is exchanged, whether the check contradicts it and whether only the table does, for each orientation."""
    scan = read_nifti(path)
    if scan.affine is None:
        raise SystemExit(f"{path} has no orientation")
    true, scale = "".join(aff2axcodes(scan.affine)), np.diag([*voxel_sizes(scan.affine), 1.0])
    outcome = []
    for code in ORIENTATIONS:
        declared = replace(scan, affine=inv_ornt_aff(axcodes2ornt(code), scan.shape) @ scale)
        view = require_view(declared)
        contradicted = orientation_contradiction(view) is not None
        turned = not contradicted and has_table_in_front(view)
        outcome.append((describe_exchange(true, code), contradicted, turned))
    return sorted(outcome)


def measure_table(path: Path) -> tuple[int, int]:
    """Pixels of the table behind and before the body."""
    return count_table_pixels(require_view(read_nifti(path)))


def require_view(scan: Scan) -> BodyAxesView:
    """The network input of the tutorial's size, turned to the axes of the body."""
    view = view_body_axes(preprocess(scan, CONTRACT).volume, CONTRACT)
    if view is None:
        raise SystemExit(f"the checks need another network input than {CONTRACT.shape}")
    return view


def describe_exchange(true: str, declared: str) -> str:
    """What a declared orientation exchanges: ``LAS`` and ``LPS`` give front and back."""
    axis = {letter: letters for letters in AXES for letter in letters}
    if [axis[letter] for letter in true] == [axis[letter] for letter in declared]:
        reversed_axes = [NAMES[axis[one]] for one, other in zip(true, declared, strict=True) if one != other]
        return ", ".join(reversed_axes) or "nothing"
    same = [axis[one] for one, other in zip(true, declared, strict=True) if axis[one] == axis[other]]
    return "front-back with head-foot" if same == ["LR"] else "left-right with another axis"


if __name__ == "__main__":
    main(sys.argv[1:])
