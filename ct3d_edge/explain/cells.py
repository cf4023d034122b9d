"""Where the cells of a network's features lie in its input."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

CELLS = "cells"
"""Key of a model file's provenance: the cells of its features."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Cells:
    """Centres of the fields that cells look at: cell ``i`` along an axis at voxel ``offset + stride * i``.

    Parameters
    ----------
    offset, stride
        One number for each axis of the network's input, in its voxels. Convolutions without padding keep the first
        cell away from the border: four blocks of the tutorial's put it at voxel 22.5, the next at 38.5.
    """

    offset: Triple
    stride: Triple

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Parse what ``to_dict`` wrote.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"found {data!r}")
        cells = cls(_triple(data.get("offset")), _triple(data.get("stride")))
        if min(cells.stride) <= 0:
            raise ValueError(f"found strides {cells.stride}")
        return cells


def _triple(value: object) -> Triple:
    if not isinstance(value, Sequence) or len(value) != 3 or not all(_is_number(number) for number in value):
        raise ValueError(f"found {value!r} where three numbers belong")
    first, second, third = (float(number) for number in value)
    return first, second, third


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
