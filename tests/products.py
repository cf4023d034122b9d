"""Fewer cases than a full product of parameters: with these every value, or every pair of values, still occurs."""

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any


def each_value(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """As many cases as the longest axis has values: every value occurs. For axes that do not influence each other."""
    values = [tuple(axis) for axis in axes]
    return [tuple(axis[row % len(axis)] for axis in values) for row in range(max(map(len, values)))]


def each_pair(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Cases in which every value of an axis meets every value of every other: pairwise testing, chosen greedily."""

    def pairs(case: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(combinations(enumerate(case), 2))

    values = [tuple(axis) for axis in axes]
    cases = list(product(*(range(len(axis)) for axis in values)))
    missing, chosen = set().union(*map(pairs, cases)), []
    while missing:
        best = max(cases, key=lambda case: len(pairs(case) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return [tuple(axis[index] for axis, index in zip(values, case, strict=True)) for case in chosen]
