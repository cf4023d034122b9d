"""How the scans that taught a model lie in space: the range of their extents, voxels and slices, for the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from ct3d_edge.errors import ContractError
from ct3d_edge.formatting import plural
from ct3d_edge.json_values import frozen, is_int, is_number

AXES = ("left to right", "front to back", "along the body")
"""Of a patient, in the order in which ranges hold them."""

Bounds = tuple[float, float]
"""Low and high, both inside."""

ByAxis = tuple[Bounds, Bounds, Bounds]


@dataclass(frozen=True)
class TrainingRange:
    """Bounds of what was measured on training scans; each axis is one of the body, see ``AXES``.

    Parameters
    ----------
    scans
        How many were measured.
    extent_mm
        Of the whole volume.
    spacing_mm
        Voxel edges.
    slices
        Voxels along the body.

    Raises
    ------
    ContractError
        If these are no such bounds.
    """

    scans: int
    extent_mm: ByAxis
    spacing_mm: ByAxis
    slices: Bounds

    def __post_init__(self) -> None:
        sides = (*_parts(self.extent_mm), *_parts(self.spacing_mm), self.slices)
        counted = is_int(self.scans) and self.scans > 0
        if not counted or len(sides) != 2 * len(AXES) + 1 or not all(map(_are_bounds, sides)):
            raise ContractError(f"Contract: training_range must hold a low and a high value each, found {self}.")

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Parse its part of a contract.

        Raises
        ------
        ContractError
            If it is no range.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ContractError(f"Contract: training_range must be an object with {', '.join(sorted(names))}.")
        return cls(**{name: frozen(part) for name, part in value.items()})

    def describe(self) -> str:
        """One line for people."""
        extent, spacing = (", ".join(_span(side) for side in part) for part in (self.extent_mm, self.spacing_mm))
        return f"{extent} mm in voxels of {spacing} mm, {_span(self.slices)} slices ({plural(self.scans, 'scan')})"


def _span(bounds: Bounds) -> str:
    low, high = bounds
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _parts(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else ()


def _are_bounds(value: object) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2):
        return False
    return all(map(is_number, value)) and bool(0 < value[0] <= value[1])
