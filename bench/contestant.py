"""One contestant in a process of its own: opens, proves that it answers alike, then runs once whenever told to.

    python -m bench.contestant MATERIAL PLAN.toml KEY

Started by `bench.contest`. Each line read from standard input is the number of a question; each line written is a JSON
object: first ``ready`` with what opening took and how far its answers are from those expected, or ``left_out`` with a
reason, then ``ms`` for each run, and ``peak`` at the end.
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

from bench.material import Material
from bench.plan import Contestant, Part, read_plan
from ct3d_edge.latency.resource_meter import peak_bytes
from ct3d_edge.system.machine import installed_version

Work = Callable[[Any], NDArray[np.float32]]


class LeftOut(Exception):
    """A contestant that cannot take part here; its text says why."""


def peer_of(part: Part) -> Any:
    """The peer's module, if all that it needs is installed.

    Raises
    ------
    LeftOut
        If something is missing, or there is no such peer.
    """
    try:
        peer = importlib.import_module(f"bench.peers.{part.peer}")
    except ModuleNotFoundError as error:
        raise LeftOut(f"there is no bench/peers/{part.peer}.py ({error})") from error
    missing = [name for name in peer.NEEDS if find_spec(name) is None]
    if missing:
        raise LeftOut(f"not installed here: {', '.join(missing)}")
    return peer


def work_of(contestant: Contestant, material: Material, threads: int) -> Work:
    """What answers one question, from its parts."""
    prepare = judge = None
    if contestant.preprocessing:
        part = contestant.preprocessing
        prepare = peer_of(part).preprocessing(material, threads, **part.options)
    if contestant.network:
        part = contestant.network
        network = peer_of(part).network
        fixed = {"batch": contestant.batch} if "batch" in signature(network).parameters else {}
        judge = network(material, threads, **fixed, **part.options)
    if prepare and judge:
        return lambda path: judge(prepare(path)[None])
    return prepare or judge  # type: ignore[return-value]


def questions_of(contestant: Contestant, material: Material) -> tuple[list[Any], list[NDArray[np.float32]]]:
    """What it is asked, and what it is expected to answer; batches are filled up in turn."""
    asked, expected = material.questions(contestant.kind), material.answers(contestant.kind)
    if contestant.kind != "network":
        return list(asked), list(expected)
    places = [[(first + n) % len(asked) for n in range(contestant.batch)] for first in range(len(asked))]
    volumes = material.volumes()
    return [volumes[rows] for rows in places], [expected[rows] for rows in places]


def largest_difference(work: Work, asked: list[Any], expected: list[NDArray[np.float32]]) -> float:
    """Over all questions; infinite where an answer is not a number or has another shape."""
    found = [work(question) for question in asked]
    parts = [
        float(np.abs(answer.reshape(wanted.shape) - wanted).max()) if answer.size == wanted.size else np.inf
        for answer, wanted in zip(found, expected, strict=True)
    ]
    return float(np.max(np.nan_to_num(parts, nan=np.inf, posinf=np.inf)))


def open_up(contestant: Contestant, material: Material, threads: int, tolerance: float) -> tuple[Work, dict[str, Any]]:
    """Open, answer for the first time, and prove that all answers are as expected.

    Raises
    ------
    LeftOut
        If they are not.
    """
    began = time.perf_counter()
    work = work_of(contestant, material, threads)
    opened = time.perf_counter()
    asked, expected = questions_of(contestant, material)
    first = largest_difference(work, asked[:1], expected[:1])
    answered = time.perf_counter()
    difference = max(first, largest_difference(work, asked[1:], expected[1:])) if len(asked) > 1 else first
    if not difference <= tolerance:
        raise LeftOut(f"its answers differ from the expected ones by {difference:.1e}, allowed are {tolerance:.0e}")
    once = {"open": (opened - began) * 1e3, "first run": (answered - opened) * 1e3}
    return work, {"once_ms": once, "difference": difference, "versions": versions_of(contestant)}


def versions_of(contestant: Contestant) -> dict[str, str]:
    """Of the packages that its parts rest on."""
    parts = [part for part in (contestant.preprocessing, contestant.network) if part]
    names = dict.fromkeys(name for part in parts for name in peer_of(part).PACKAGES)
    return {name: version for name in names if (version := installed_version(name))}


def serve(work: Work, asked: list[Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run once for each line of standard input."""
    for line in sys.stdin:
        question = asked[int(line) % len(asked)]
        began = time.perf_counter_ns()
        work(question)
        tell({"ms": (time.perf_counter_ns() - began) / 1e6})
    tell({"peak": peak_bytes()})


def main() -> None:
    """Take part in a contest."""
    material, plan_file, key = Material(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
    # Libraries print what they like to standard output; the answers go where nothing else does.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    plan = read_plan(plan_file)
    contestant = next(entry for entry in plan.contestants if entry.key == key)
    tolerance = plan.tolerance[contestant.kind] if contestant.tolerance is None else contestant.tolerance
    try:
        work, facts = open_up(contestant, material, plan.threads, tolerance)
    except Exception as error:  # a library of somebody else's may raise anything: it is named and left out
        reason = str(error) if isinstance(error, LeftOut) else f"{type(error).__name__}: {error}"
        tell({"left_out": (reason.strip().splitlines() or [type(error).__name__])[0]})
        return
    tell({"ready": facts})
    serve(work, questions_of(contestant, material)[0], tell)


if __name__ == "__main__":
    main()
