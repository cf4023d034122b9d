"""How a scan's voxels lie in the patient: orientation, distances, extent."""

import numpy as np

from ct3d_edge.formatting import plural
from ct3d_edge.preprocess import OBLIQUE_DEGREES
from ct3d_edge.scan import Finding, Scan
from ct3d_edge.scan.geometry import shear_degrees

IN_PLANE_MM = (0.1, 5.0)
"""Voxel edges that a CT of a person has; beyond them a header is in other units or of something else."""

SLICE_MM = 12.0
"""The thickest slices of a chest CT that can be interpolated between; MosMedData has 8 mm."""

CT_MATRIX = 512
"""Pixels a side of a CT slice as it is reconstructed; 512 of them are 0.5 to 0.98 mm wide in a chest, never 1."""

LENGTH_MM = (90.0, 700.0)
"""Along the body: below, not even a newborn's chest is covered; above, most of the body is there."""

FEW_SLICES = 12
"""Fewer slices than this leave gaps of more than 25 mm in an adult's chest (300 mm)."""

TOO_FEW_SLICES = 8


def lying_findings(scan: Scan) -> list[Finding]:
    """Measured values of every check of geometry, most of them for the record only."""
    found = [_slice_count(scan)]
    if scan.affine is None or scan.spacing is None or scan.axis_code is None:
        return found
    tilt = shear_degrees(scan.affine)
    return [
        *_default_affine(scan),
        Finding("orientation", "ok", f"Array axes grow toward {scan.axis_code}.", scan.axis_code),
        _obliqueness(scan),
        Finding("gantry_tilt", "ok", f"Array axes are at right angles within {tilt:.2f} degrees.", round(tilt, 2)),
        _spacing(scan.spacing),
        _coverage(scan, scan.spacing, scan.axis_code),
        *found,
    ]


def _default_affine(scan: Scan) -> list[Finding]:
    """Whether the affine is the one that software writes for an array whose geometry was lost."""
    if scan.affine is None or not np.array_equal(np.abs(scan.affine[:3, :3]), np.eye(3)):
        return []
    in_plane = sorted(scan.shape)[1:]
    nothing_known = np.array_equal(scan.affine, np.eye(4))
    if not nothing_known and not (in_plane[0] == in_plane[1] >= CT_MATRIX):
        return []
    what = "is the identity" if nothing_known else f"gives {in_plane[0]} x {in_plane[1]} pixels of exactly 1 mm"
    detail = f"The affine {what}, as software writes it where the geometry was lost; check orientation and spacing."
    return [Finding("default_affine", "warn", detail)]


def _obliqueness(scan: Scan) -> Finding:
    degrees = scan.obliquity
    detail = f"The nearest body axes are {degrees:.1f} degrees away."
    return Finding("oblique", "warn" if degrees > OBLIQUE_DEGREES else "ok", detail, round(degrees, 2))


def _spacing(spacing: tuple[float, float, float]) -> Finding:
    smallest, middle, largest = sorted(spacing)
    plausible = IN_PLANE_MM[0] <= smallest and middle <= IN_PLANE_MM[1] and largest <= SLICE_MM
    said = " x ".join(f"{edge:.3g}" for edge in spacing)
    detail = f"Voxels of {said} mm." if plausible else f"Voxels of {said} mm, which no chest CT has."
    return Finding("spacing", "ok" if plausible else "warn", detail, said)


def _coverage(scan: Scan, spacing: tuple[float, float, float], axis_code: str) -> Finding:
    extent = [size * edge for size, edge in zip(scan.shape, spacing, strict=True)]
    along = next(mm for mm, letter in zip(extent, axis_code, strict=True) if letter in "SI")
    usual = LENGTH_MM[0] <= along <= LENGTH_MM[1]
    detail = f"{along:.0f} mm along the body; {' x '.join(f'{mm:.0f}' for mm in extent)} mm in all."
    if not usual:
        detail += f" A chest takes {LENGTH_MM[0]:.0f} to {LENGTH_MM[1]:.0f} mm."
    return Finding("coverage", "ok" if usual else "warn", detail, round(along, 1))


def _slice_count(scan: Scan) -> Finding:
    count = min(scan.shape)
    severity = "refuse" if count < TOO_FEW_SLICES else "warn" if count < FEW_SLICES else "ok"
    return Finding("few_slices", severity, f"{plural(count, 'slice')} along the shortest axis.", count)  # type: ignore[arg-type]
