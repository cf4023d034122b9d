"""How long does an archive take on many machines of unlike speed, with stragglers, crashes and machines that fail?

    python -m bench.cluster_simulation [--scans N] [--machines N] [--seed N] [--real]

A discrete-event simulation of `infer --engine ray`, with its own `TaskQueue`, and of shards, one a machine, on the same
machines. With `--real` the same is done by Ray on this machine with workers that sleep, beside a simulation of that:
how far the two agree says how far the other figures can be believed. Figures go to
bench/results/cluster_simulation.json.
"""

import argparse
import heapq
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.save_record import RESULTS
from ct3d_edge.cluster.ray_engine import RayEngine
from ct3d_edge.cluster.ray_worker import WorkerReady
from ct3d_edge.cluster.task_queue import MAX_DEATHS, TaskQueue
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import open_model
from ct3d_edge.inference.resume import WORKER_DIED
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.results.shards import shard_index
from ct3d_edge.system.machine import describe_machine

CONFIG = InferenceConfig("cpu", use_tuning=False)


@dataclass(frozen=True)
class Load:
    """What happens on the way. Times in seconds.

    Parameters
    ----------
    straggler_share, straggler_factor
        Of the scans, and how many times as long they take.
    deadly_share
        Of the scans that kill their process.
    start_s
        Of a worker until its model is open.
    failures_per_hour, repair_s
        Of one machine: it loses its scans, and comes back.
    """

    straggler_share: float = 0.01
    straggler_factor: float = 10.0
    deadly_share: float = 1e-4
    start_s: float = 5.0
    failures_per_hour: float = 1 / 10
    repair_s: float = 1800.0


@dataclass(frozen=True)
class Machine:
    """Processes of a machine, and how long one takes for a scan, in seconds."""

    workers: int
    scan_s: float


@dataclass(frozen=True)
class Outcome:
    """Of one simulated run: hours, records, share of the workers' time that was used, and what happened."""

    hours: float
    records: int
    worker_died: int
    used: float
    deaths: int
    failures: int


class Simulation:
    """One run: a queue that all machines share, or one queue a machine (shards)."""

    def __init__(self, machines: Sequence[Machine], load: Load, seed: int) -> None:
        self._machines, self._load, self._random = machines, load, random.Random(seed)  # noqa: S311
        self._events: list[tuple[float, int, int, int, str]] = []
        self._count = self._deaths = self._failures = self._given_up = self._records = 0
        self._busy = self._end = 0.0
        self._generation = [0] * len(machines)
        """Rises when a machine fails: events of its processes before that are void."""

    def run(self, queues: Sequence[TaskQueue[tuple[int, int]]], durations: dict[str, float]) -> Outcome:
        """Hand out the scans of the queues (one, or one a machine) until all have a record."""
        self._queues, self._durations = queues, durations
        for number, machine in enumerate(self._machines):
            self._plan_failure(0.0, number)
            for worker in range(machine.workers):
                self._plan(self._load.start_s, number, worker, "ready")
        while not all(queue.is_empty for queue in queues):
            now, _, number, worker, what = heapq.heappop(self._events)
            self._handle(now, number, worker, what)
        workers = sum(machine.workers for machine in self._machines)
        used = self._busy / (self._end * workers)
        return Outcome(self._end / 3600, self._records, self._given_up, used, self._deaths, self._failures)

    def _handle(self, now: float, number: int, worker: int, what: str) -> None:
        kind, _, generation = what.partition(" ")
        if kind == "fail":
            self._fail(now, number)
            return
        if generation and int(generation) != self._generation[number]:
            return
        queue = self._queues[min(number, len(self._queues) - 1)]
        if kind == "done":
            queue.finish((number, worker))
            self._records, self._end = self._records + 1, now
        elif kind == "dead":
            self._deaths += 1
            if queue.lose((number, worker)) is not None:
                self._given_up, self._records, self._end = self._given_up + 1, self._records + 1, now
            self._plan(now + self._load.start_s, number, worker, "ready")
            return
        self._give(now, number, worker, queue)

    def _give(self, now: float, number: int, worker: int, queue: TaskQueue[tuple[int, int]]) -> None:
        scan = queue.assign((number, worker))
        if scan is None:
            if not queue.is_empty:  # others may lose scans
                self._plan(now + 60.0, number, worker, "ready")
            return
        duration = abs(self._durations[scan]) * self._machines[number].scan_s
        self._busy += duration
        self._plan(now + duration, number, worker, "dead" if self._durations[scan] < 0 else "done")

    def _fail(self, now: float, number: int) -> None:
        """A machine is gone with the scans of all of its processes; they are not blamed."""
        self._failures += 1
        self._generation[number] += 1
        queue = self._queues[min(number, len(self._queues) - 1)]
        back = now + self._load.repair_s
        for worker in range(self._machines[number].workers):
            queue.lose((number, worker), scan_may_be_the_cause=False)
            self._plan(back + self._load.start_s, number, worker, "ready")
        self._plan_failure(back, number)

    def _plan(self, when: float, number: int, worker: int, what: str) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, number, worker, f"{what} {self._generation[number]}"))

    def _plan_failure(self, now: float, number: int) -> None:
        if self._load.failures_per_hour:
            hours = self._random.expovariate(self._load.failures_per_hour)
            self._count += 1
            heapq.heappush(self._events, (now + hours * 3600, self._count, number, -1, "fail"))


def draw_durations(scans: int, load: Load, seed: int) -> dict[str, float]:
    """Scan to its duration in units of the machine's; negative for a scan that kills its process."""
    rng = random.Random(seed)  # noqa: S311
    durations = {}
    for number in range(scans):
        slow = load.straggler_factor if rng.random() < load.straggler_share else 1.0
        sign = -1 if rng.random() < load.deadly_share else 1
        durations[f"scan_{number}"] = sign * slow * rng.uniform(0.8, 1.2)
    return durations


def simulate(scans: int, machines: Sequence[Machine], load: Load, seed: int) -> dict[str, Outcome]:
    """The same scans by one queue and by shards."""
    durations = draw_durations(scans, load, seed)
    shards: list[list[str]] = [[] for _ in machines]
    for scan in durations:
        shards[shard_index(scan, len(machines)) - 1].append(scan)
    one = [TaskQueue[tuple[int, int]](durations)]
    apart = [TaskQueue[tuple[int, int]](part) for part in shards]
    return {
        "ray": Simulation(machines, load, seed).run(one, durations),
        "shards": Simulation(machines, load, seed).run(apart, durations),
    }


class SleepingWorker:
    """Sleeps as long as the name of a scan says, or ends its process."""

    def __init__(self, _: object) -> None:
        with open_model(default_model_path(), CONFIG) as model:
            self._record = model.make_failed_result(Path(), WORKER_DIED).record

    def start(self, _: bytes) -> WorkerReady:
        """Be ready."""
        return WorkerReady("", 0, self._record)

    def predict(self, scan: str, _known: ResultRecord | None) -> ResultRecord:
        """Sleep, or die."""
        seconds = float(scan.rpartition("_")[2])
        time.sleep(abs(seconds))
        if seconds < 0:
            os._exit(1)
        return self._record


class SleepingEngine(RayEngine):
    """Ray itself, without the network."""

    worker_class = SleepingWorker


def compare_with_ray(scans: int, workers: int, seed: int) -> dict[str, Any]:
    """Seconds from the first to the last record of sleeping workers, by Ray and simulated."""
    from ray.cluster_utils import Cluster

    load = Load(straggler_share=0.02, deadly_share=0.005, failures_per_hour=0)
    scan_s = 0.1
    durations = draw_durations(scans, load, seed)
    names = [f"{name}_{duration * scan_s:.4f}" for name, duration in durations.items()]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    try:
        engine = SleepingEngine(load_model_file(default_model_path()), CONFIG, [], address=cluster.address)
        times = [time.perf_counter() for _ in engine.results(names)]
    finally:
        cluster.shutdown()
    queue = [TaskQueue[tuple[int, int]](durations)]
    expected = Simulation([Machine(workers, scan_s)], load, seed).run(queue, durations)
    deadly = sum(duration < 0 for duration in durations.values())
    return {
        "scans": scans,
        "workers": workers,
        "deadly": deadly,
        "records": len(times),
        "ray_s": times[-1] - times[0],
        "simulated_s": expected.hours * 3600 - load.start_s,
        "simulated_deaths": expected.deaths == deadly * MAX_DEATHS,
    }


def describe(name: str, outcome: Outcome) -> str:
    """One line."""
    return (
        f"{name:7} {outcome.hours:6.2f} h; {outcome.records} records, {outcome.worker_died} worker_died; workers busy "
        f"{outcome.used:.0%}; {outcome.deaths} processes and {outcome.failures} machines died"
    )


def main() -> None:
    """Simulate, and with `--real` compare with Ray."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=1_000_000)
    parser.add_argument("--machines", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args()
    rng, load = random.Random(given.seed), Load()  # noqa: S311
    machines = [Machine(2, 0.3 * rng.choice((0.5, 1.0, 1.0, 2.0))) for _ in range(given.machines)]
    outcomes = simulate(given.scans, machines, load, given.seed)
    print("\n".join(describe(name, outcome) for name, outcome in outcomes.items()))
    found: dict[str, Any] = {
        "environment": describe_machine(("ct3d-edge", "ray")),
        "scans": given.scans,
        "seed": given.seed,
        "machines": [asdict(machine) for machine in machines],
        "load": asdict(load),
        "outcomes": {name: asdict(outcome) for name, outcome in outcomes.items()},
    }
    if given.real:
        found["compared"] = compared = compare_with_ray(400, 8, given.seed)
        print("Ray on this machine {ray_s:.1f} s, simulated {simulated_s:.1f} s, {records} records".format(**compared))
    (RESULTS / "cluster_simulation.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
