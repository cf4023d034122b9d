"""Plans of contests: who runs, on what, how often. One TOML file a plan, parsed strictly."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bench.fixture import KINDS
from ct3d_edge.errors import UsageError


@dataclass(frozen=True)
class PeerPart:
    """A peer's share of the work.

    Parameters
    ----------
    peer
        Name of a module in bench/peers/.
    options
        Passed to it by name.
    """

    peer: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PeerEntry:
    """One row of the table.

    Parameters
    ----------
    name
        In words.
    preprocessing, network
        Who does which part; with both, a scan file becomes a probability.
    ours
        Whether it is this project's.
    batch
        Volumes in one run.
    precision
        In which it computes by these options: `fp32`, `bf16`, `fp16` or `int8`.
    tolerance
        Largest difference from what is expected; None for the plan's.
    """

    name: str
    preprocessing: PeerPart | None = None
    network: PeerPart | None = None
    ours: bool = False
    batch: int = 1
    precision: str = "fp32"
    tolerance: float | None = None

    @property
    def kind(self) -> str:
        """Which of the three questions it answers."""
        network, preprocessing, decision = KINDS
        if self.preprocessing and self.network:
            return decision
        return preprocessing if self.preprocessing else network

    @property
    def key(self) -> str:
        """Its name in a record: unique."""
        return f"{self.kind}: {self.name}"


@dataclass(frozen=True)
class ComparisonPlan:
    """A contest.

    Parameters
    ----------
    question
        What it answers, in a line.
    contestants
        Who runs.
    groups, rounds, warmup
        Fresh processes so many times; in each so many counted rounds, in which each contestant runs once, after so many
        runs that are not counted.
    threads
        Of each contestant.
    tolerance
        Kind to the largest difference from what is expected in fp32; who differs by more is not timed.
    reduced_tolerance
        The same by precision, for the others.
    across_precisions
        Whether the table compares all of a question with this project's fastest, not only those of its precision.
    """

    question: str
    contestants: tuple[PeerEntry, ...]
    groups: int
    rounds: int
    warmup: int
    threads: int
    tolerance: Mapping[str, float]
    reduced_tolerance: Mapping[str, float] = field(default_factory=dict)
    across_precisions: bool = False

    def of_kind(self, kind: str) -> tuple[PeerEntry, ...]:
        """Those who answer one question."""
        return tuple(contestant for contestant in self.contestants if contestant.kind == kind)

    def tolerance_of(self, contestant: PeerEntry) -> float:
        """Largest difference that a contestant may have."""
        if contestant.tolerance is not None:
            return contestant.tolerance
        by_precision = {**self.reduced_tolerance, "fp32": self.tolerance[contestant.kind]}
        return by_precision[contestant.precision]


def load_plan(path: Path) -> ComparisonPlan:
    """Parse a plan.

    Raises
    ------
    UsageError
        If the file cannot be read, lacks a field, has an unknown one, or two contestants have one name.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The plan {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    try:
        contestants = tuple(_contestant(entry) for entry in data.pop("contestant", ()))
        plan: ComparisonPlan = _build(ComparisonPlan, {**data, "contestants": contestants})
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}.") from error
    _validate(plan, path)
    return plan


def _contestant(entry: dict[str, Any]) -> PeerEntry:
    parts: dict[str, Any] = {name: _part(entry.pop(name)) for name in ("preprocessing", "network") if name in entry}
    if not parts:
        raise ValueError(f"contestant {entry.get('name')!r} does neither preprocessing nor network")
    made: PeerEntry = _build(PeerEntry, {**entry, **parts})
    return made


def _part(entry: dict[str, Any]) -> PeerPart:
    options = dict(entry)
    return PeerPart(str(options.pop("peer")) if "peer" in entry else "", options)


def _build(kind: Any, values: dict[str, Any]) -> Any:
    unknown = sorted(set(values) - {entry.name for entry in fields(kind)})
    if unknown:
        raise ValueError(f"unknown fields {', '.join(unknown)}")
    return kind(**values)


def _validate(plan: ComparisonPlan, path: Path) -> None:
    keys = [contestant.key for contestant in plan.contestants]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise UsageError(f"{path}: two contestants are called {twice[0]!r}.")
    if missing := sorted({contestant.kind for contestant in plan.contestants} - set(plan.tolerance)):
        raise UsageError(f"{path}: [tolerance] does not say how much may differ for: {', '.join(missing)}.")
    known = {"fp32", *plan.reduced_tolerance}
    if missing := sorted({contestant.precision for contestant in plan.contestants} - known):
        raise UsageError(f"{path}: [reduced_tolerance] has no entry for: {', '.join(missing)}.")
    if not keys or min(plan.groups, plan.rounds, plan.threads) < 1 or plan.warmup < 0:
        raise UsageError(f"{path}: a plan needs contestants, and groups, rounds and threads of at least 1.")
