"""What do shards and Ray cost against one run of `infer`, and how many scans a second can Ray's driver hand out?

    python -m bench.many_machines [FOLDER] [--rounds N] [--no-op N]

On this machine alone: the same folder by `infer`, by both of two shards, one after the other, and by Ray with one
worker a core, in turn, each in a fresh process. Two figures of each: the whole command, and scans a second between its
first and its last record, which leaves the start out. Then a driver whose workers do nothing. Everything goes to
bench/results/many_machines.json. Without a folder it takes 48 phantoms of 512 x 512 x 40.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.save_record import save_record
from ct3d_edge.cluster.ray_engine import RayEngine
from ct3d_edge.cluster.ray_worker import WorkerReady
from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import open_model
from ct3d_edge.inference.resume import WORKER_DIED
from ct3d_edge.latency.measure import Samples, WallClock
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import interference
from ct3d_edge.latency.system_monitor import SystemMonitor, read_resident_bytes
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.results.results_file import open_results
from ct3d_edge.results.shards import Shard
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.system.machine import describe_machine

SCANS, ROUNDS, NO_OP = 48, 5, 10_000
PACKAGES = ("ct3d-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "ray")
CONFIG = InferenceConfig("cpu", use_tuning=False)
WAYS = ("infer", "shard 1/2", "shard 2/2", "ray")


class NoOpWorker:
    """Returns the same record for every scan."""

    def __init__(self, _: object) -> None:
        with open_model(default_model_path(), CONFIG) as model:
            self._record = model.make_failed_result(Path(), WORKER_DIED).record

    def start(self, _: bytes) -> WorkerReady:
        """Be ready."""
        return WorkerReady("", 0, self._record)

    def predict(self, _scan: str, _known: ResultRecord | None) -> ResultRecord:
        """No work."""
        return self._record


class NoOpEngine(RayEngine):
    """Only the driver's work."""

    worker_class = NoOpWorker


def iter_records(way: str, scans: list[Path]) -> Iterator[object]:
    """Predict the scans one way."""
    if way == "ray":
        names = list(map(str, scans))
        yield from RayEngine(load_model_file(default_model_path()), CONFIG, names).results(names)
        return
    chosen = Shard.parse(way.split()[1]).select(scans) if " " in way else scans
    with open_model(default_model_path(), CONFIG) as model:
        yield from model.iter_results(chosen, model.make_schedule(len(chosen)))


def run_here(way: str, folder: Path) -> dict[str, float]:
    """Scans, and the seconds between the first and the last record."""
    times = [time.perf_counter() for _ in iter_records(way, find_scans([folder]))]
    return {"scans": len(times), "seconds": times[-1] - times[0]}


def run_apart(way: str, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of the whole process, and what it measured."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "bench.many_machines", "--run", way, str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - start, json.loads(printed.splitlines()[-1])


def measure_driver(scans: int) -> dict[str, float]:
    """Scans a second and resident memory of a driver with its journal, whose workers do nothing."""
    names = [f"/archive/scan_{number}.nii.gz" for number in range(scans)]
    resident, begun = [], 0.0
    engine = NoOpEngine(load_model_file(default_model_path()), CONFIG, [])
    with tempfile.TemporaryDirectory() as place, open_results(Path(place) / "results.jsonl") as results_file:
        for number, record in enumerate(engine.results(names)):
            begun = begun or time.perf_counter()
            results_file.add(replace(record, scan=names[number]))
            if number in (scans // 2, scans - 1):
                resident.append(read_resident_bytes() or 0)
        rate = (scans - 1) / (time.perf_counter() - begun)
    return {"scans": scans, "per_second": rate, "second_half_grows_mb": (resident[1] - resident[0]) / 1e6}


def measure(folder: Path, rounds: int, no_op: int) -> BenchRecord:
    """All ways in turn."""
    monitor = SystemMonitor(WallClock())
    whole: dict[str, list[float]] = {"infer": [], "two shards": [], "ray": []}
    per_scan: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(rounds):
        monitor.sample()
        found = {way: run_apart(way, folder) for way in WAYS}
        for name, ways in (("infer", WAYS[:1]), ("two shards", WAYS[1:3]), ("ray", WAYS[3:])):
            whole[name].append(sum(found[way][0] for way in ways) * 1e3)
            inner = [found[way][1] for way in ways]
            scans = sum(each["scans"] - 1 for each in inner)
            per_scan[name].append(sum(each["seconds"] for each in inner) / scans * 1e3)
    driver = measure_driver(no_op)
    monitor.sample()
    print("\n".join(interference(monitor.snapshots)))
    counted = {
        f"{name}, {what}": tuple(taken)
        for what, table in (("whole", whole), ("per scan", per_scan))
        for name, taken in table.items()
    }
    conditions: dict[str, Any] = {"rounds": rounds, "scans": len(find_scans([folder])), "driver": driver}
    report(whole, per_scan, driver)
    return BenchRecord(
        "A folder by infer, by two shards and by Ray on one machine",
        describe_machine(PACKAGES),
        conditions,
        {},
        Samples({}, counted),
        arrangement="in turn",
        surroundings=tuple(monitor.snapshots),
    )


def report(whole: dict[str, list[float]], per_scan: dict[str, list[float]], driver: dict[str, float]) -> None:
    """A line for each way, with its scans a second as a part of those of infer."""
    for name, seconds in whole.items():
        ratios = [a / b for a, b in zip(per_scan["infer"], per_scan[name], strict=True)]
        print(
            f"{name:12} whole {statistics.median(seconds) / 1e3:6.2f} s; "
            f"{1e3 / statistics.median(per_scan[name]):6.2f} scans/s = {statistics.median(ratios):.3f} of infer "
            f"({min(ratios):.3f}..{max(ratios):.3f})"
        )
    print(
        "driver: {scans} no-op scans, {per_second:.0f} a second, its second half adds "
        "{second_half_grows_mb:.1f} MB".format(**driver)
    )


def main() -> None:
    """Measure the folders named, or phantoms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-op", type=int, default=NO_OP)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run_here(arguments.run, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder
        if folder is None:
            synthesise(Path(place) / "made", SCANS, seed=1)
            folder = Path(place) / "made" / "scans"
        save_record(measure(folder, arguments.rounds, arguments.no_op), "many_machines")


if __name__ == "__main__":
    main()
