"""Inputs for a golden test: blends of which the network is unsure, so that a small change of it changes a probability.

Where a network is sure its probabilities are 0 and 1 to many digits, whatever its last bias is.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.modelfile.golden_input import BLEND_STEPS, RECIPE, Blend, Shape, make_golden_input
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.temperature_scaling import logit

PredictFn = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""One network input, ``contract.shape``, to its probabilities ``(classes,)``."""

TOLERANCE = 1e-4
"""Of a probability. Wider than the parity check's limit: other processors add up in another order."""

TARGET_PROBABILITIES = (0.5, 0.35, 0.65)
"""Probabilities of one class that blends are searched for."""

TARGET_TOLERANCE = 0.05
"""A blend this near to its target is taken."""

CONFIDENT_PROBABILITY = 0.8
"""A network whose largest probability is above this is sure."""

MIN_SPREAD = 0.02
"""Probabilities that differ by less among inputs hardly differ."""

MIN_SEEDS, MAX_SEEDS = 6, 24
"""Seeds that are tried: at least, and at most until one lies on each side of all targets."""

MAX_SEARCH_STEPS = 10


def make_golden_test(predict: PredictFn, shape: Shape) -> GoldenTest:
    """Search inputs of which a network is unsure and predict them; if there are none, the test has a `weakness`.

    Parameters
    ----------
    predict
        The network, or the reference of a file made from it.
    shape
        Of its input.
    """
    asked: dict[Blend, NDArray[np.float64]] = {}

    def ask(blend: Blend) -> NDArray[np.float64]:
        if blend not in asked:
            asked[blend] = predict(make_golden_input(RECIPE, blend, shape))
        return asked[blend]

    found = [
        _search(ask, pair, target)
        for pair, target in zip(_find_bracketing_pairs(ask), TARGET_PROBABILITIES, strict=False)
    ]
    chosen = tuple(dict.fromkeys(blend for blend in found if ask(blend).max() <= CONFIDENT_PROBABILITY))
    if len(chosen) < len(TARGET_PROBABILITIES) - 1:
        chosen = tuple(dict.fromkeys((*chosen, *_most_different(asked))))
    expected = tuple(tuple(float(p) for p in ask(blend)) for blend in chosen)
    return GoldenTest(RECIPE, chosen, expected, TOLERANCE, weakness=golden_test_weakness(expected))


def golden_test_weakness(expected: tuple[tuple[float, ...], ...]) -> str | None:
    """Why outputs ``(input, class)`` are a weak test of their network; None if they are not."""
    table = np.asarray(expected)
    surest = table.max(axis=1)
    if not surest.min() <= CONFIDENT_PROBABILITY:
        return (
            f"no input was found of which the network is unsure: the largest probability of an input is "
            f"{surest.min():.6g} to {surest.max():.6g}"
        )
    apart = probability_spread(table)
    if not apart >= MIN_SPREAD:
        return f"the predictions are nearly alike whatever it is given: probabilities differ by {apart:.2g}"
    return None


def probability_spread(table: NDArray[np.float64]) -> float:
    """By how much the probabilities ``(input, class)`` of a class differ, of the class where they differ most."""
    return float(np.ptp(table, axis=0).max())


SeedPair = tuple[int, int, int]
"""A class, a seed for which the network gives a low probability of it, and one for which it gives a high one."""


def _find_bracketing_pairs(ask: Callable[[Blend], NDArray[np.float64]]) -> list[SeedPair]:
    """A pair of seeds for each target, different ones where there are several; none if no class has one."""
    predictions: list[NDArray[np.float64]] = []
    for seed in range(1, MAX_SEEDS + 1):
        predictions.append(ask((seed, seed, 0)))
        if seed >= MIN_SEEDS and (pairs := list(_bracketing_pairs(np.stack(predictions)))):
            return [pairs[n % len(pairs)] for n in range(len(TARGET_PROBABILITIES))]
    return []


def _bracketing_pairs(table: NDArray[np.float64]) -> Iterator[SeedPair]:
    """Of outputs ``(seed - 1, class)``, seeds on both sides of all targets: a pair of each class, then a second one.

    Of two classes the second is enough: the first has what is left of one.
    """
    low, high = (
        table < min(TARGET_PROBABILITIES) - TARGET_TOLERANCE,
        table > max(TARGET_PROBABILITIES) + TARGET_TOLERANCE,
    )
    for nth in range(len(table)):
        for number in range(1 if table.shape[1] == 2 else 0, table.shape[1]):
            below, above = np.flatnonzero(low[:, number]) + 1, np.flatnonzero(high[:, number]) + 1
            if nth < min(len(below), len(above)):
                yield number, int(below[nth]), int(above[nth])


def _search(ask: Callable[[Blend], NDArray[np.float64]], pair: SeedPair, target: float) -> Blend:
    """The blend whose probability is nearest to a target: bisection and false position in turn."""
    number, one, other = pair

    def off(weight: int) -> float:
        return float(logit(ask((one, other, weight)))[number] - logit(np.array(target)))

    ends = {0: off(0), BLEND_STEPS: off(BLEND_STEPS)}
    best = min(ends, key=lambda weight: abs(ends[weight]))
    for step in range(MAX_SEARCH_STEPS):
        low, high = min(ends), max(ends)
        share = 0.5 if step % 2 else ends[low] / (ends[low] - ends[high])
        weight = min(max(round(low + share * (high - low)), low + 1), high - 1)
        if high - low < 2:
            break
        value = off(weight)
        if abs(value) < abs(off(best)):
            best = weight
        if abs(float(ask((one, other, weight))[number]) - target) <= TARGET_TOLERANCE:
            break
        ends = {weight: value, high: ends[high]} if value < 0 else {low: ends[low], weight: value}
    return (one, other, best)


def _most_different(asked: dict[Blend, NDArray[np.float64]]) -> tuple[Blend, ...]:
    """Of inputs that were tried, those with the lowest, middle and highest probability of the last class."""
    ranked = sorted(asked, key=lambda blend: float(asked[blend][-1]))
    return tuple(ranked[n * (len(ranked) - 1) // 2] for n in range(3))
