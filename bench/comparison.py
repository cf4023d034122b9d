"""Run a plan: all contestants of a question are open at once, each in a process of its own, and run in turn.

So a drift of the machine affects all of them equally, and none shares threads, allocator or caches with another. A
contestant that is not installed, does not open or gives other results is left out with the reason; the runs of one that
fails later stay in the record.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.fixture import KINDS, Fixture
from bench.peer_process import PeerFailed, PeerProcess
from bench.plan import ComparisonPlan, PeerEntry
from ct3d_edge.latency.measure import Samples, WallClock
from ct3d_edge.latency.record import BenchRecord, keep_partial_result
from ct3d_edge.latency.system_monitor import SystemMonitor, SystemSnapshot, take_snapshot
from ct3d_edge.system.machine import describe_machine

PACKAGES = ("ct3d-edge", "numpy", "onnxruntime", "onnxruntime-gpu")
PAUSE_S = 0.05
"""Between two turns: waiting threads of the one before go on spinning for a while."""

LogFn = Callable[[str], None]


@dataclass
class PeerRuns:
    """What is known of one contestant so far."""

    warmup: list[float] = field(default_factory=list)
    counted: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    once: list[dict[str, float]] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    left_out: str | None = None
    failed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For the record: difference, versions, medians of what happens once in a process, in ms."""
        names = self.once[0] if self.once else {}
        return {**self.facts, "once_ms": {name: statistics.median(once[name] for once in self.once) for name in names}}


class PeerComparison:
    """A plan being carried out.

    Parameters
    ----------
    plan, plan_file
        What to do, and the file that the contestants read it from.
    fixture
        What they are given.
    say
        Told what is going on.
    """

    def __init__(self, plan: ComparisonPlan, plan_file: Path, fixture: Fixture, say: LogFn = lambda _: None) -> None:
        self.plan, self.scores = plan, {contestant.key: PeerRuns() for contestant in plan.contestants}
        self._files = (str(fixture.folder.resolve()), str(plan_file.resolve()))
        self._fixture, self._say = fixture, say
        self._entrants: list[PeerProcess] = []
        self._witness = SystemMonitor(WallClock(), read=self._look)

    def _look(self, at_s: float) -> SystemSnapshot:
        """The machine; the contestants' CPU time is the contest's own, not that of other processes."""
        theirs = sum(entrant.cpu_seconds() for entrant in self._entrants)
        seen = take_snapshot(at_s)
        return replace(seen, own_s=seen.own_s + theirs)

    def run(self, *, dry: bool = False) -> BenchRecord:
        """All groups and rounds; with ``dry`` every contestant opens, is checked and runs once.

        Raises
        ------
        BrokenOffError
            With the record so far, if it is interrupted.
        """
        groups = 1 if dry else self.plan.groups
        with keep_partial_result(self.record):
            for group in range(groups):
                for kind in KINDS:
                    self._say(f"group {group + 1} of {groups}: {kind}")
                    self._one_question(self.plan.of_kind(kind), group, dry=dry)
        return self.record()

    def _one_question(self, contestants: Sequence[PeerEntry], group: int, *, dry: bool) -> None:
        with ExitStack() as stack:
            running = {}
            for contestant in contestants:
                entrant = self._enter(contestant, stack)
                if entrant:
                    running[contestant.key] = entrant
            rounds = 1 if dry else self.plan.rounds
            for number in range(0 if dry else -self.plan.warmup, rounds):
                self._round(running, number, group)
            for key in list(running):
                self._leave(key, running)

    def _enter(self, contestant: PeerEntry, stack: ExitStack) -> PeerProcess | None:
        score = self.scores[contestant.key]
        if score.left_out or score.failed:
            return None
        entrant = PeerProcess((*self._files, contestant.key), self.plan.threads)
        stack.callback(entrant.close)
        self._entrants.append(entrant)
        try:
            facts = entrant.wait_until_ready()
        except PeerFailed as reason:
            score.left_out = str(reason)
            self._say(f"left out: {contestant.key}: {reason}")
            return None
        score.once.append(facts.pop("once_ms"))
        facts["difference"] = max(facts["difference"], score.facts.get("difference", 0.0))
        score.facts = facts
        return entrant

    def _round(self, running: dict[str, PeerProcess], number: int, group: int) -> None:
        """Everybody once; who comes first changes from round to round."""
        keys = list(running)
        shift = (number + group) % max(1, len(keys))
        for key in keys[shift:] + keys[:shift]:
            time.sleep(PAUSE_S)
            score = self.scores[key]
            try:
                taken = running[key].run(max(0, number))
            except PeerFailed as reason:
                self._fail(key, running, str(reason))
                continue
            (score.warmup if number < 0 else score.counted).append(taken)
            self._witness.sample_if_due()

    def _leave(self, key: str, running: dict[str, PeerProcess]) -> None:
        try:
            peak = running[key].finish()
        except PeerFailed as reason:
            self._fail(key, running, str(reason))
            return
        if peak is not None:
            self.scores[key].peaks.append(peak)

    def _fail(self, key: str, running: dict[str, PeerProcess], reason: str) -> None:
        self.scores[key].failed = reason
        del running[key]
        self._say(f"failed: {key}: {reason}")

    def record(self, broken_off: str | None = None) -> BenchRecord:
        """What there is so far."""
        self._witness.sample()
        ran = {key: score for key, score in self.scores.items() if score.counted}
        failed = [f"{key} failed ({score.failed})" for key, score in self.scores.items() if score.failed]
        samples = Samples(
            {key: tuple(score.warmup) for key, score in ran.items()},
            {key: tuple(score.counted) for key, score in ran.items()},
        )
        even = all(len({len(taken) for taken in part.values()}) <= 1 for part in (samples.warmup, samples.counted))
        return BenchRecord(
            self.plan.question,
            describe_machine(PACKAGES),
            self._conditions(),
            {},
            samples,
            arrangement="in turn" if even else "blocks",
            surroundings=tuple(self._witness.snapshots),
            resources={f"{key}, peak resident, bytes": max(score.peaks) for key, score in ran.items() if score.peaks},
            incomplete="; ".join([*([broken_off] if broken_off else []), *failed]) or None,
        )

    def _conditions(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "groups": plan.groups,
            "rounds": plan.rounds,
            "threads": plan.threads,
            "tolerance": dict(plan.tolerance),
            "reduced_tolerance": dict(plan.reduced_tolerance),
            "across_precisions": plan.across_precisions,
            "scans": [path.name for path in self._fixture.scans],
            "contestants": {
                entry.key: {"kind": entry.kind, **asdict(entry), **self.scores[entry.key].as_dict()}
                for entry in plan.contestants
                if self.scores[entry.key].facts
            },
            "left_out": {key: score.left_out for key, score in self.scores.items() if score.left_out},
        }
