"""What a network's features of its training scans look like, in few numbers, for the contract."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from ct3d_edge.errors import ContractError
from ct3d_edge.formatting import plural
from ct3d_edge.json_values import frozen, is_int, is_number

Vector = tuple[float, ...]


@dataclass(frozen=True)
class FeatureStatistics:
    """A Gaussian in few directions and noise in all others; how to fit and use it: `ct3d_edge.resemblance`.

    Parameters
    ----------
    mean
        ``(C,)`` of the pooled features, the input of the network's first dense layer.
    directions
        ``(k, C)`` unit vectors in which they vary most, at right angles.
    variances
        ``(k,)`` along these, falling.
    residual_variance
        Along every other direction.
    threshold
        Largest distance that is not told.
    scans, held_out
        How many scans it was fitted on, and how many others gave the threshold.

    Raises
    ------
    ContractError
        If these numbers do not fit each other.
    """

    mean: Vector
    directions: tuple[Vector, ...]
    variances: Vector
    residual_variance: float
    threshold: float
    scans: int
    held_out: int

    def __post_init__(self) -> None:
        for holds, complaint in _conditions(self):
            if not holds:
                raise ContractError(f"Contract: feature_statistics {complaint}. Calibrate the run again.")

    @property
    def features(self) -> int:
        """How many features the network pools."""
        return len(self.mean)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Parse its part of a contract.

        Raises
        ------
        ContractError
            If it is no such thing.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ContractError(f"Contract: feature_statistics must be an object with {', '.join(sorted(names))}.")
        return cls(**{name: frozen(part) for name, part in value.items()})

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{plural(self.features, 'feature')} of {plural(self.scans, 'scan')}, "
            f"{plural(len(self.directions), 'direction')}; a distance above {self.threshold:.3g} is told "
            f"({plural(self.held_out, 'other scan')})"
        )


def _conditions(given: FeatureStatistics) -> list[tuple[bool, str]]:
    vectors = isinstance(given.directions, tuple) and all(map(_is_vector, (given.mean, *given.directions)))
    size = len(given.mean) if vectors else 0
    same = vectors and size > 0 and all(len(direction) == size for direction in given.directions)
    kept = _is_vector(given.variances) and vectors and len(given.variances) == len(given.directions)
    scales = (*given.variances, given.residual_variance, given.threshold) if kept else ()
    return [
        (same, "must hold a mean and directions of one length"),
        (kept, "must hold a variance for each direction"),
        (kept and all(is_number(scale) and scale > 0 for scale in scales), "must be above 0 in every direction"),
        (all(is_int(count) and count > 0 for count in (given.scans, given.held_out)), "must count their scans"),
    ]


def _is_vector(value: object) -> bool:
    return isinstance(value, tuple) and all(map(is_number, value))
