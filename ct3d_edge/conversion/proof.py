"""Does a file answer as what it was made from does? The gate in front of every model file."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.calibration import logit
from ct3d_edge.errors import GateError, UsageError
from ct3d_edge.runtime import Runner

Reference = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""One network input, ``contract.shape``, to its probabilities ``(classes,)``: a Keras network or another file."""

Answers = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Probabilities ``(classes,)`` of one volume: those expected and those found."""

MINIMUM_VOLUMES = 8

LIMIT = 1e-5
"""Largest difference of a probability that float32 arithmetic in another order explains for networks of this size."""


@dataclass(frozen=True)
class Proof:
    """What comparing two implementations of a network on the same volumes gave.

    Parameters
    ----------
    volumes, material
        How many were compared, and what they were, in words.
    provider
        Which provider ran the file.
    probability_difference, logit_difference
        The largest over all volumes and classes; the first is also the smallest limit that would have passed.
    label_flips
        Volumes on which the answer differs.
    probability_range
        Lowest and highest probability of the last class that the reference gave: a proof on volumes that all look
        the same to it proves little.
    limit
        For the probability difference.
    """

    volumes: int
    material: str
    provider: str
    probability_difference: float
    logit_difference: float
    label_flips: int
    probability_range: tuple[float, float]
    limit: float

    @classmethod
    def of(cls, pairs: Sequence[Answers], runner: Runner, *, material: str, limit: float) -> Self:
        """Compare ``(expected, found)`` probabilities, a pair a volume, of which ``runner`` gave the second.

        Raises
        ------
        UsageError
            With fewer than eight pairs.
        """
        if len(pairs) < MINIMUM_VOLUMES:
            raise UsageError(f"A proof needs at least {MINIMUM_VOLUMES} volumes, found {len(pairs)}.")
        expected, found = (np.stack(side) for side in zip(*pairs, strict=True))
        winner = runner.contract.winner
        return cls(
            volumes=len(pairs),
            material=material,
            provider=runner.receipt.actual,
            probability_difference=float(np.abs(expected - found).max()),
            logit_difference=float(np.abs(logit(expected) - logit(found)).max()),
            label_flips=sum(winner(a) != winner(b) for a, b in zip(expected, found, strict=True)),
            probability_range=(float(expected[:, -1].min()), float(expected[:, -1].max())),
            limit=limit,
        )

    @property
    def holds(self) -> bool:
        """Within the limit, without a flip; never with a NaN."""
        return self.probability_difference <= self.limit and self.label_flips == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
        low, high = self.probability_range
        return (
            f"{self.volumes} volumes ({self.material}) on {self.provider}: largest difference of probability "
            f"{self.probability_difference:.1e} (limit {self.limit:.0e}), of logit {self.logit_difference:.1e}, "
            f"{self.label_flips} label flips; probabilities from {low:.3f} to {high:.3f}"
        )


def prove(
    reference: Reference,
    runner: Runner,
    volumes: Iterable[NDArray[np.float32]],
    *,
    material: str,
    limit: float = LIMIT,
) -> Proof:
    """Compare a file with what it was made from, volume by volume.

    Parameters
    ----------
    reference
        Gives the answers to be met.
    runner
        The file in an open session.
    volumes
        At least eight network inputs, each ``contract.shape`` float32; consumed one at a time.
    material
        What the volumes are, in words, for the record.
    limit
        Largest difference of a probability that passes.

    Raises
    ------
    UsageError
        With fewer than eight volumes.
    GateError
        If the proof does not hold, or the reference gives the same answer for every volume.
    """
    pairs = [(reference(volume), runner.infer(volume[None])[0]) for volume in volumes]
    proof = Proof.of(pairs, runner, material=material, limit=limit)
    require(proof)
    return proof


def require(proof: Proof) -> None:
    """Let nothing pass whose proof does not hold, or proves nothing.

    Raises
    ------
    GateError
        With the figures.
    """
    if not proof.holds:
        raise GateError(
            f"The proof does not hold: {proof.describe()}. No file was written. The smallest limit that would have "
            f"passed is {proof.probability_difference:.1e}."
        )
    low, high = proof.probability_range
    if low == high:
        raise GateError(
            f"The proof proves nothing: the network gives exactly {low:.6f} for each of the {proof.volumes} volumes "
            f"({proof.material}). No file was written. Prove it on scans that it tells apart: --proof FOLDER"
        )
