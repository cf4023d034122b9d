"""What a scan shows, measured on the network's input: are the numbers HU, and is it a chest?"""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.preprocess import Prepared, placement
from ct3d_edge.quality_control.anatomy_checks import anatomy_contradiction
from ct3d_edge.quality_control.slice_order import slice_order_finding
from ct3d_edge.scan.qc_flag import Finding
from ct3d_edge.scan.volume import Scan

WINDOW = (-1000.0, 150.0)
"""HU that a contract's window must hold for air, lung and soft tissue to be told apart."""

AIR_BELOW = -800.0
SOFT_TISSUE = (-150.0, 150.0)
LEAST_AIR = 0.005
LEAST_SOFT_TISSUE = 0.02
"""Fractions of the input. Twelve real chests and parts of chests have 17 % air and 29 % soft tissue at least."""

CORNER = 12
"""A corner is this part of a slice's width: outside the body, unless the scan is cut to it."""

BRIGHT = 300.0
"""No body fills all four corners of most slices with bone; air that was turned into its negative does."""

LUNG = (-960.0, -500.0)
"""Lung tissue with its vessels at any breath; air is below, fat and muscle above."""

BODY_ABOVE = -300.0

LEAST_BODY = 0.1
"""Part of the volume that a body is taken to fill at least: a few bright voxels in noisy air are none."""

FINEST = 64
"""Slices with fewer pixels a side than this leave no lung after its edge is taken away."""

FEWEST_SLICES = 16
"""Of a scan in which spine, trachea and the order of slices can be followed."""

NOT_CHEST = 0.03
LITTLE_LUNG = 0.08
"""Lung-like part of the body. Measured: docs/inputs.md."""

HU_LIMITS = (-10_000.0, 20_000.0)
"""Padding values and metal lie within; beyond, numbers have overflowed or are no HU."""


def content_findings(scan: Scan, prepared: Prepared, contract: Contract) -> list[Finding]:
    """Measured values of every check of the voxels; none where the contract's window hides what they need."""
    low, high = contract.hu_window
    found = [_range(prepared.hu_range)]
    if low > WINDOW[0] or high < WINDOW[1]:
        return found
    hu = prepared.volume[::2, ::2] * (high - low) + low
    found += [_inverted(hu, high), _units(hu)]
    if min(contract.shape[:2]) >= FINEST:
        found.append(_chest(hu, scan))
    if min(contract.shape[:2]) < FINEST or sorted(scan.shape)[1] < FINEST or min(scan.shape) < FEWEST_SLICES:
        return found
    found.append(_slice_order(scan, prepared, contract))
    contradiction = anatomy_contradiction(prepared.volume, contract)
    if contradiction:
        found.append(Finding("orientation_mismatch", "refuse", f"{contradiction} Correct the file's orientation."))
    return found


def _slice_order(scan: Scan, prepared: Prepared, contract: Contract) -> Finding:
    """Slices are looked for along the shortest array axis; of equal ones along the last."""
    stacked = min(range(3), key=lambda axis: (scan.shape[axis], -axis))
    return slice_order_finding(prepared.volume, scan.shape[stacked], placement(scan, contract).axes.index(stacked))


def lung_like(hu: NDArray[np.float32]) -> tuple[float, float]:
    """How much of a volume looks like lung: voxels in the HU of lung whose neighbours in the slice are, too.

    Air shines through at every skin, as a film of one voxel; asking the neighbours removes it.

    Parameters
    ----------
    hu
        ``(W, H, D)``.

    Returns
    -------
    tuple
        Lung-like fraction of body and lung together, and of the whole volume.
    """
    like = (hu > LUNG[0]) & (hu < LUNG[1])
    inside = like.copy()
    inside[1:] &= like[:-1]
    inside[:-1] &= like[1:]
    inside[:, 1:] &= like[:, :-1]
    inside[:, :-1] &= like[:, 1:]
    body, lung = int(np.count_nonzero(hu > BODY_ABOVE)), int(np.count_nonzero(inside))
    return lung / max(lung + body, LEAST_BODY * hu.size), lung / hu.size


def _range(hu_range: tuple[float, float]) -> Finding:
    low, high = hu_range
    usual = HU_LIMITS[0] <= low and high <= HU_LIMITS[1]
    said = f"{low:.0f} to {high:.0f}"
    return Finding("hu_range", "ok" if usual else "warn", f"Sampled voxels hold {said} HU.", said)


def _inverted(hu: NDArray[np.float32], highest: float) -> Finding:
    wide, tall = max(hu.shape[0] // CORNER, 1), max(hu.shape[1] // CORNER, 1)
    corners = [hu[x, y].ravel() for x in (slice(wide), slice(-wide, None)) for y in (slice(tall), slice(-tall, None))]
    corner = float(np.median(np.concatenate(corners)))
    bright = corner >= min(BRIGHT, highest)
    detail = f"The corners of the slices hold {corner:.0f} HU" + (
        ": air is bright, as in an inverted picture." if bright else "."
    )
    return Finding("inverted", "refuse" if bright else "ok", detail, round(corner))


def _units(hu: NDArray[np.float32]) -> Finding:
    air = np.count_nonzero(hu < AIR_BELOW) / hu.size
    soft = np.count_nonzero((hu > SOFT_TISSUE[0]) & (hu < SOFT_TISSUE[1])) / hu.size
    plausible = air >= LEAST_AIR and soft >= LEAST_SOFT_TISSUE
    detail = f"{air:.1%} of the voxels hold air and {soft:.1%} soft tissue" + (
        "." if plausible else ": these are no HU, or there is no body in air."
    )
    return Finding("not_hu", "ok" if plausible else "refuse", detail, f"{air:.3f} {soft:.3f}")


def _chest(hu: NDArray[np.float32], scan: Scan) -> Finding:
    of_body, of_all = lung_like(hu)
    severity = "refuse" if of_body < NOT_CHEST else "warn" if of_body < LITTLE_LUNG else "ok"
    litres = ""
    if scan.spacing is not None:
        litres = f", {of_all * np.prod(scan.shape) * np.prod(scan.spacing) / 1e6:.1f} litres"
    detail = f"{of_body:.1%} of the body looks like lung{litres}."
    return Finding("not_chest", severity, detail, round(of_body, 4))  # type: ignore[arg-type]
