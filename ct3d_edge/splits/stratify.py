"""Random assignment of groups of scans that must stay together, so that each class gives each part its share.

The order is that of hashes: unlike a random generator's order, no library version can change them.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

ATTEMPTS = 64
"""Orders that are tried where whole groups cannot give the exact shares. Single scans can: the first order does."""


@dataclass(frozen=True)
class Group:
    """Scans that stay together.

    Parameters
    ----------
    name
        Hashed for its position in the order.
    scans
        Their paths.
    counts
        How many of them belong to each class.
    """

    name: str
    scans: tuple[str, ...]
    counts: tuple[int, ...]


Counts = tuple[tuple[int, ...], ...]
"""Scans by part, then by class."""


def whole_shares(scans: int, fractions: Sequence[float]) -> tuple[int, ...]:
    """Nearest whole number of scans for each fraction, and the rest behind them; at least one each.

    ``scans`` must be at least ``len(fractions) + 1``.
    """
    shares = [max(round(scans * fraction), 1) for fraction in fractions]
    while sum(shares) >= scans:
        shares[shares.index(max(shares))] -= 1
    return (*shares, scans - sum(shares))


def even_shares(counts: Sequence[int], parts: int) -> Counts:
    """Scans by part and class such that parts, within classes and in all, differ by one at most."""
    position = count()
    extra = [[0] * len(counts) for _ in range(parts)]
    for label, scans in enumerate(counts):
        for _ in range(scans % parts):
            extra[next(position) % parts][label] = 1
    return tuple(tuple(n // parts + more for n, more in zip(counts, row, strict=True)) for row in extra)


def assign_groups(groups: Sequence[Group], targets: Counts, seed: int) -> list[list[Group]]:
    """Assign groups to parts, as near to the targets as whole groups allow; every part gets both classes.

    Parameters
    ----------
    groups
        Of each of the two classes, as many groups as there are parts must have a scan: then every part can have
        one, since a part that is given a group of both classes leaves a single one of each to another.
    targets
        Scans wanted by part, then by class; together, what the groups have.
    seed
        Draws another order.
    """
    attempts: list[list[list[Group]]] = []
    for attempt in range(ATTEMPTS):
        attempts.append(_assign_once(_shuffle(groups, seed, attempt), targets, reserve=attempt % 2 == 1))
        if _miss(attempts[-1], targets) == (0, 0):
            break
    return min(attempts, key=lambda parts: _miss(parts, targets))


def _shuffle(groups: Sequence[Group], seed: int, attempt: int) -> list[Group]:
    salt = f"{seed}\n" if attempt == 0 else f"{seed}\n{attempt}\n"
    return sorted(groups, key=lambda group: hashlib.sha256(salt.encode() + os.fsencode(group.name)).digest())


def _assign_once(order: list[Group], targets: Counts, *, reserve: bool) -> list[list[Group]]:
    """Each group goes to the first part that it brings nearer to its target, else where it does least harm."""
    parts: list[list[Group]] = [_reserve(order, len(targets[0])) if reserve else [] for _ in targets]
    needs = [_need(part, target) for part, target in zip(parts, targets, strict=True)]
    for group in order:
        gains = [_gain(group, need) for need in needs]
        chosen = next((n for n, gain in enumerate(gains) if gain > 0), gains.index(max(gains)))
        parts[chosen].append(group)
        needs[chosen] = _need([group], needs[chosen])
    return parts


def _reserve(order: list[Group], classes: int) -> list[Group]:
    """Take one scan of each class out of the order; small groups of one class are spent first."""
    part: list[Group] = []
    for label in range(classes):
        fitting = [group for group in order if group.counts[label]]
        if fitting and not any(group.counts[label] for group in part):
            part.append(min(fitting, key=lambda group: (sum(map(bool, group.counts)), sum(group.counts))))
            order.remove(part[-1])
    return part


def _gain(group: Group, need: Sequence[int]) -> int:
    """By how much a group lowers the squared distance of a part from its target."""
    return sum(n**2 - (n - own) ** 2 for n, own in zip(need, group.counts, strict=True))


def _miss(parts: list[list[Group]], targets: Counts) -> tuple[int, int]:
    """How many parts lack a class, and the squared distance from the targets."""
    classes = range(len(targets[0]))
    lacking = sum(not all(any(group.counts[label] for group in part) for label in classes) for part in parts)
    distance = sum(n**2 for part, target in zip(parts, targets, strict=True) for n in _need(part, target))
    return lacking, distance


def _need(part: list[Group], target: Sequence[int]) -> list[int]:
    return [wanted - sum(group.counts[label] for group in part) for label, wanted in enumerate(target)]
