"""Does a file answer as what it was made from does? The gate in front of every model file."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.conversion.decisions import compare_predictions
from ct3d_edge.conversion.tensor_parity import TensorParity
from ct3d_edge.errors import CheckFailedError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.session.golden_search import MIN_SPREAD, probability_spread
from ct3d_edge.session.runner import Runner

ReferenceFn = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""One network input, ``contract.shape``, to its probabilities ``(classes,)``: a Keras network or another file."""

OutputPair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Probabilities ``(classes,)`` of one volume: those expected and those found."""

MIN_PARITY_VOLUMES = 8

DEFAULT_PARITY_ATOL = 1e-5
"""Largest difference of a probability that float32 arithmetic in another order explains for networks of this size."""


@dataclass(frozen=True)
class ParityReport:
    """What comparing two implementations of a network on the same volumes gave.

    Parameters
    ----------
    volumes, material
        How many were compared, and what they were, in words.
    provider
        Which provider ran the file.
    probability_difference, logit_difference, label_flips, swapped_pairs, auc_difference
        As in `Decisions`; the first is also the smallest limit that would have passed.
    probability_range
        Lowest and highest probability of the last class that the reference gave: a proof on volumes that all look
        the same to it proves little.
    limit
        For the probability difference.
    rehearsed
        Whether float32 arithmetic stood in for float16, each tensor rounded as a device with float16 does it.
    tensors
        The tensors between input and output; None where they were not compared.
    weakness
        Why agreement on these volumes says little; None if it says enough.
    """

    volumes: int
    material: str
    provider: str
    probability_difference: float
    logit_difference: float
    label_flips: int
    swapped_pairs: int
    auc_difference: float | None
    probability_range: tuple[float, float]
    limit: float
    rehearsed: bool = False
    tensors: TensorParity | None = None
    weakness: str | None = None

    @property
    def within_tolerance(self) -> bool:
        """Whether probabilities are within the limit, without a flip; never with a NaN."""
        return self.probability_difference <= self.limit and self.label_flips == 0

    @classmethod
    def of(
        cls,
        pairs: Sequence[OutputPair],
        runner: Runner,
        *,
        material: str,
        limit: float,
        truth: Sequence[int] | None = None,
    ) -> Self:
        """Compare ``(expected, found)`` probabilities, a pair a volume, of which ``runner`` gave the second.

        Raises
        ------
        UsageError
            With fewer than eight pairs.
        """
        if len(pairs) < MIN_PARITY_VOLUMES:
            raise UsageError(f"A proof needs at least {MIN_PARITY_VOLUMES} volumes, found {len(pairs)}.")
        expected, found = (np.stack(side) for side in zip(*pairs, strict=True))
        return cls(
            volumes=len(pairs),
            material=material,
            provider=runner.run_report.actual,
            probability_range=(float(expected[:, -1].min()), float(expected[:, -1].max())),
            limit=limit,
            weakness=_describe_low_spread(expected),
            **asdict(compare_predictions(expected, found, runner.contract, truth)),
        )

    @property
    def holds(self) -> bool:
        """Whether decisions and, where they were compared, tensors are as they must be."""
        return self.within_tolerance and (self.tensors is None or self.tensors.holds)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
        low, high = self.probability_range
        auc = "" if self.auc_difference is None else f", AUC differs by {self.auc_difference:.1e}"
        return (
            f"{plural(self.volumes, 'volume')} ({self.material}) on {self.provider}"
            f"{' with rounding' if self.rehearsed else ''}: "
            f"largest difference of probability {self.probability_difference:.1e} (limit {self.limit:.0e}), of logit "
            f"{self.logit_difference:.1e}, {plural(self.label_flips, 'label flip')}{auc}; probabilities from "
            f"{low:.3f} to {high:.3f}"
        )


@dataclass(frozen=True, eq=False)
class ParityDataset:
    """What a file is proven on.

    Parameters
    ----------
    volumes
        At least eight network inputs, each ``contract.shape`` float32; consumed one at a time.
    material
        What they are, in words, for the record.
    limit
        Largest difference of a probability that passes.
    truth
        0 or 1 for each volume, where both classes are known.
    """

    volumes: Iterable[NDArray[np.float32]]
    material: str
    limit: float
    truth: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class OutputComparison:
    """Proofs, one of each runner, and for each the volume on which it is furthest off."""

    parity_reports: tuple[ParityReport, ...]
    worst: tuple[NDArray[np.float32], ...]


def compare_outputs(reference: ReferenceFn, runners: Sequence[Runner], evidence: ParityDataset) -> OutputComparison:
    """Let all runners answer each volume, which exists once.

    Raises
    ------
    UsageError
        With fewer than eight volumes.
    """
    expected: list[NDArray[np.float64]] = []
    found: list[list[NDArray[np.float64]]] = [[] for _ in runners]
    worst = [np.empty(0, np.float32) for _ in runners]
    largest = [-1.0 for _ in runners]
    for volume in evidence.volumes:
        expected.append(reference(volume))
        for number, runner in enumerate(runners):
            found[number].append(runner.infer(volume[None])[0])
            gap = float(np.nan_to_num(np.abs(found[number][-1] - expected[-1]), nan=np.inf).max())
            if gap > largest[number]:
                worst[number], largest[number] = volume, gap
    made = partial(ParityReport.of, material=evidence.material, limit=evidence.limit, truth=evidence.truth)
    pairs = [list(zip(expected, answers, strict=True)) for answers in found]
    return OutputComparison(tuple(made(p, runner) for p, runner in zip(pairs, runners, strict=True)), tuple(worst))


def check_parity(
    reference: ReferenceFn,
    runner: Runner,
    volumes: Iterable[NDArray[np.float32]],
    *,
    material: str,
    limit: float = DEFAULT_PARITY_ATOL,
) -> ParityReport:
    """Compare a file with what it was made from, volume by volume.

    Parameters
    ----------
    reference
        Gives the answers to be met.
    runner
        The file in an open session.
    volumes, material, limit
        As in `ParityDataset`.

    Raises
    ------
    UsageError
        With fewer than eight volumes.
    GateError
        If the proof does not hold, or the reference gives the same answer for every volume.
    """
    (parity,) = compare_outputs(reference, [runner], ParityDataset(volumes, material, limit)).parity_reports
    require_parity(parity)
    return parity


def require_parity(parity: ParityReport, blame: Callable[[], str] = str) -> None:
    """Stop at a proof that does not hold; ``blame`` is asked for a sentence about why.

    Raises
    ------
    GateError
        If it does not hold, or proves nothing.
    """
    if not parity.within_tolerance:
        raise CheckFailedError(
            f"The proof does not hold: {parity.describe()}. No file was written. The smallest limit that would have "
            f"passed is {parity.probability_difference:.1e}.{_locate_failure(blame)}"
        )
    if parity.tensors is not None and not parity.tensors.holds:
        raise CheckFailedError(
            f"The proof does not hold on {parity.provider}, although the answers agree: {parity.tensors.describe()}. "
            f"No file was written. The smallest limit that would have passed is {parity.tensors.worst.largest:.1e}."
            f"{_locate_failure(blame)}"
        )
    low, high = parity.probability_range
    if low == high:
        raise CheckFailedError(
            f"The proof proves nothing: the network gives exactly {low:.6f} for each of the {parity.volumes} volumes "
            f"({parity.material}). No file was written. Prove it on scans that it tells apart: --parity-data FOLDER"
        )


def _describe_low_spread(expected: NDArray[np.float64]) -> str | None:
    """Whether probabilities ``(volumes, classes)`` are nearly the same for every volume, in words."""
    apart = probability_spread(expected)
    if apart >= MIN_SPREAD:
        return None
    return (
        f"the network answers nearly alike to all {len(expected)} volumes, whose probabilities differ by {apart:.2g}; "
        "another network may do that too. Prove it on scans that it tells apart: --parity-data FOLDER"
    )


def _locate_failure(blame: Callable[[], str]) -> str:
    """Its sentence; whatever happens on the way to it, that the proof has failed is what there is to say."""
    try:
        sentence = blame()
    except Exception as error:
        sentence = f"Which node is to blame could not be found: {type(error).__name__}: {error}"
    return f" {sentence}" if sentence else ""
