"""Whether a scan is like those that taught the model: how it lies, and what the network makes of it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.formatting import plural
from ct3d_edge.resemblance import Resemblance
from ct3d_edge.scan import Finding, Scan
from ct3d_edge.training_range import AXES, Bounds, TrainingRange

LETTERS = ("LR", "AP", "SI")
"""Of axis codes, in the order of ``AXES``."""

EXTENT = 1.1
"""Times a bound that a scan may extend: bodies and fields of view differ by that from one to the next."""

SAMPLING = 2.2
"""Times a bound that voxel edges and slices may be, as between 256 and 512 pixels a side with ``EXTENT`` on top: every
scan is resampled to the network's input, and phantoms so much finer than in training gave features like theirs."""


@dataclass(frozen=True)
class Lie:
    """How a scan lies, by axis of the body: ``extent_mm``, ``spacing_mm``, and ``slices`` along it."""

    extent_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slices: int

    @classmethod
    def of(cls, scan: Scan) -> "Lie | None":
        """From a scan's header; None if that does not say."""
        spacing, code = scan.spacing, scan.axis_code
        if spacing is None or code is None or any(letter not in "LRAPSI" for letter in code):
            return None
        order = [next(n for n, letter in enumerate(code) if letter in pair) for pair in LETTERS]
        extent = tuple(scan.shape[axis] * spacing[axis] for axis in order)
        return cls(extent, tuple(spacing[axis] for axis in order), scan.shape[order[-1]])


def against_range(found: list[Finding], scan: Scan, trained: TrainingRange | None) -> list[Finding]:
    """Findings about how a scan lies, made warnings where it lies as no training scan did; all as they are without one.

    Parameters
    ----------
    found
        From `lying_findings`; what is wrong by any measure is left as it is.
    """
    lie = Lie.of(scan)
    if trained is None or lie is None:
        return found
    outside = {
        "coverage": _outside(lie.extent_mm, trained.extent_mm, EXTENT, "mm", trained.scans),
        "spacing": _outside(lie.spacing_mm, trained.spacing_mm, SAMPLING, "mm", trained.scans),
    }
    judged = [_warned(finding, outside.get(finding.code, "")) for finding in found]
    count = Finding("slice_count", "ok", f"{plural(lie.slices, 'slice')} along the body.", lie.slices)
    return [*judged, _warned(count, _outside((lie.slices,), (trained.slices,), SAMPLING, "slices", trained.scans))]


def resemblance_finding(pooled: NDArray[np.float32], resemblance: Resemblance) -> Finding:
    """How far the features ``(C,)`` that a network pools of a scan lie from those of its training scans."""
    (distance,) = resemblance.distances(pooled[np.newaxis])
    given = resemblance.statistics
    far = not distance <= given.threshold
    detail = (
        f"What the network sees lies {distance:.2f} from the {plural(given.scans, 'scan')} that taught it"
        f"{', further than' if far else '; the limit is'} {given.threshold:.2f}{': it was not made for this' * far}."
    )
    return Finding("out_of_distribution", "warn" if far else "ok", detail, f"{distance:.3f} {given.threshold:.3f}")


def _warned(finding: Finding, sentence: str) -> Finding:
    if not sentence or finding.severity != "ok":
        return finding
    return replace(finding, severity="warn", detail=f"{finding.detail} {sentence}")


def _outside(found: tuple[float, ...], bounds: tuple[Bounds, ...], slack: float, unit: str, scans: int) -> str:
    """A sentence on what lies outside; empty if nothing does."""
    axes = AXES if len(found) == len(AXES) else AXES[-1:]
    said = [
        f"{value:.3g} {unit} {axis}, not {low:.3g} to {high:.3g}"
        for value, (low, high), axis in zip(found, bounds, axes, strict=True)
        if not low / slack <= value <= high * slack
    ]
    return f"The {plural(scans, 'scan')} that taught this model lay otherwise: {'; '.join(said)}." if said else ""
