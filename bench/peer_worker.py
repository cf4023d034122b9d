"""One contestant in a process of its own: it opens, checks its results, then runs once for each request.

    python -m bench.peer_worker FIXTURE PLAN.toml KEY

Started by `bench.comparison`. Each line of standard input is the number of an input; each line of standard output is a
JSON object: first ``ready`` with the time of opening and the largest difference from the expected results, or
``left_out`` with a reason, then ``ms`` for each run, and ``peak`` at the end.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.fixture import KINDS, Fixture
from bench.plan import PeerEntry, PeerPart, load_plan
from ct3d_edge.latency.system_monitor import read_peak_bytes
from ct3d_edge.system.machine import find_installed_version

PeerFn = Callable[[Any], NDArray[np.float32]]


class PeerUnavailable(Exception):
    """A contestant that cannot take part here; its text says why."""


def load_peer(part: PeerPart) -> Any:
    """The peer's module, if all that it needs is installed.

    Raises
    ------
    LeftOut
        If something is missing, or there is no such peer.
    """
    try:
        peer = importlib.import_module(f"bench.peers.{part.peer}")
    except ModuleNotFoundError as error:
        raise PeerUnavailable(f"there is no bench/peers/{part.peer}.py ({error})") from error
    missing = [name for name in peer.NEEDS if find_spec(name) is None]
    if missing:
        raise PeerUnavailable(f"not installed here: {', '.join(missing)}")
    return peer


def build_work(contestant: PeerEntry, fixture: Fixture, threads: int) -> PeerFn:
    """What answers one question, from its parts."""
    prepare = judge = None
    if contestant.preprocessing:
        part = contestant.preprocessing
        prepare = load_peer(part).preprocessing(fixture, threads, **part.options)
    if contestant.network:
        part = contestant.network
        network = load_peer(part).network
        fixed = {"batch": contestant.batch} if "batch" in signature(network).parameters else {}
        judge = network(fixture, threads, **fixed, **part.options)
    if prepare and judge:
        return lambda path: judge(prepare(path)[None])
    return prepare or judge  # type: ignore[return-value]


def load_inputs(contestant: PeerEntry, fixture: Fixture) -> tuple[list[Any], list[NDArray[np.float32]]]:
    """What it is asked, and what it is expected to answer; batches are filled up in turn."""
    asked, expected = fixture.inputs(contestant.kind), fixture.answers(contestant.kind)
    if contestant.kind != "network":
        return list(asked), list(expected)
    places = [[(first + n) % len(asked) for n in range(contestant.batch)] for first in range(len(asked))]
    volumes = fixture.volumes()
    return [volumes[rows] for rows in places], [expected[rows] for rows in places]


def max_difference(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> float:
    """Over all answers; infinite where one is not a number or has another shape."""
    parts = [
        float(np.abs(answer.reshape(wanted.shape) - wanted).max()) if answer.size == wanted.size else np.inf
        for answer, wanted in zip(found, expected, strict=True)
    ]
    return float(np.max(np.nan_to_num(parts, nan=np.inf, posinf=np.inf)))


def open_and_check(
    contestant: PeerEntry, fixture: Fixture, threads: int, tolerance: float
) -> tuple[PeerFn, dict[str, Any]]:
    """Open, answer for the first time, and prove that all answers are as expected.

    Raises
    ------
    LeftOut
        If they are not.
    """
    began = time.perf_counter()
    work = build_work(contestant, fixture, threads)
    opened = time.perf_counter()
    asked, expected = load_inputs(contestant, fixture)
    answers = [work(asked[0])]
    has_prediction = time.perf_counter()
    answers += [work(question) for question in asked[1:]]
    difference = max_difference(answers, expected)
    if not difference <= tolerance:
        raise PeerUnavailable(
            f"its answers differ from the expected ones by {difference:.1e}, allowed are {tolerance:.0e}"
        )
    once = {"open": (opened - began) * 1e3, "first run": (has_prediction - opened) * 1e3}
    precision = getattr(work, "precision", contestant.precision)
    facts: dict[str, Any] = {"difference": difference, "precision": precision, "versions": package_versions(contestant)}
    if contestant.kind == KINDS[0]:
        facts["answers"] = [answer.tolist() for answer in answers]
    return work, {"once_ms": once, **facts}


def package_versions(contestant: PeerEntry) -> dict[str, str]:
    """Of the packages that its parts rest on."""
    parts = [part for part in (contestant.preprocessing, contestant.network) if part]
    names = dict.fromkeys(name for part in parts for name in load_peer(part).PACKAGES)
    return {name: version for name in names if (version := find_installed_version(name))}


def run_on_request(work: PeerFn, asked: list[Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run once for each line of standard input."""
    for line in sys.stdin:
        question = asked[int(line) % len(asked)]
        began = time.perf_counter_ns()
        work(question)
        tell({"ms": (time.perf_counter_ns() - began) / 1e6})
    tell({"peak": read_peak_bytes()})


def main() -> None:
    """Take part in a contest."""
    fixture, plan_file, key = Fixture(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
    # Libraries print what they like to standard output; the answers go where nothing else does.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    plan = load_plan(plan_file)
    contestant = next(entry for entry in plan.contestants if entry.key == key)
    try:
        work, facts = open_and_check(contestant, fixture, plan.threads, plan.tolerance_of(contestant))
    except Exception as error:  # a library of somebody else's may raise anything: it is named and left out
        reason = str(error) if isinstance(error, PeerUnavailable) else f"{type(error).__name__}: {error}"
        tell({"left_out": (reason.strip().splitlines() or [type(error).__name__])[0]})
        return
    tell({"ready": facts})
    run_on_request(work, load_inputs(contestant, fixture)[0], tell)


if __name__ == "__main__":
    main()
