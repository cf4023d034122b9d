"""Has reading and preprocessing become slower than in another checkout of this project?

    python -m bench.against --against PATH [FOLDER ...]

Each checkout runs in a process of its own with this environment's packages. Both open and preprocess every scan in
turn, the first of a pair alternating, in several pairs of processes. Prints the medians, the median of the ratios pair
by pair with its 99 % interval, and whether both give the same network input; keeps every sample in
bench/results/against.json. Without folders it takes the real scans beside the checkout, or phantoms.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import IO, Any, cast

from bench.save_record import save_record
from bench.scans import REAL_SCANS, resolve_scans
from ct3d_edge.latency.measure import Samples, WallClock
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import interference
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.latency.system_monitor import SystemMonitor
from ct3d_edge.system.machine import describe_machine

ROOT = Path(__file__).parents[1]
DEFAULT_FOLDERS = (REAL_SCANS, REAL_SCANS.parent / "full", REAL_SCANS.parents[1] / "dicom")
PACKAGES = ("ct3d-edge", "numpy", "nibabel", "isal", "pydicom", "python-gdcm")
PROCESSES, WARMUP, ROUNDS = 3, 2, 9

WORKER = """
import hashlib, json, pathlib, sys, time
from ct3d_edge import Contract, open_scan
try:
    from ct3d_edge.preprocessing import preprocess
except ModuleNotFoundError:  # checkouts before it was renamed
    from ct3d_edge.preprocess import preprocess
contract = Contract()
for line in sys.stdin:
    start = time.perf_counter()
    try:
        volume = preprocess(open_scan(pathlib.Path(json.loads(line))), contract).volume
        took = (time.perf_counter() - start) * 1e3
        answer = {"ms": took, "sha256": hashlib.sha256(volume.tobytes()).hexdigest()}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


class Checkout:
    """A checkout's package in a process of its own.

    Parameters
    ----------
    path
        The folder that holds ``ct3d_edge``.
    """

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=path,
            env={**os.environ, "PYTHONPATH": str(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._input, self._output = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)

    def read_and_preprocess(self, scan: Path) -> dict[str, Any]:
        """``ms`` and ``sha256`` of the network input, or ``error``."""
        self._input.write(f"{json.dumps(str(scan))}\n")
        self._input.flush()
        answer = self._output.readline()
        if not answer:
            raise SystemExit(f"the process of a checkout ended with exit code {self._process.wait()}")
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self._input.close()
        self._process.wait()
        self._output.close()


Times = dict[str, list[float]]


def measure(
    paths: dict[str, Path], scans: dict[str, Path], monitor: SystemMonitor, rounds: int = ROUNDS
) -> tuple[Times, Times, dict[str, str]]:
    """Warm-up and counted durations by ``checkout, scan``, and of each scan whether the inputs agree, or its error."""
    warmup, counted, known = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list), {}
    for _ in range(PROCESSES):
        checkouts = {name: Checkout(path) for name, path in paths.items()}
        for label, scan in scans.items():
            for number in range(WARMUP + rounds):
                order = list(checkouts) if number % 2 else list(checkouts)[::-1]
                answers = {name: checkouts[name].read_and_preprocess(scan) for name in order}
                errors = [answer["error"] for answer in answers.values() if "error" in answer]
                if errors:
                    known[label] = f"left out: {errors[0]}"
                    break
                same = len({answer["sha256"] for answer in answers.values()}) == 1
                known[label] = "the same network input" if same else "another network input"
                for name, answer in answers.items():
                    (warmup if number < WARMUP else counted)[f"{name}, {label}"].append(answer["ms"])
        for checkout in checkouts.values():
            checkout.close()
        monitor.sample()
    return warmup, counted, known


def report(counted: Times, known: dict[str, str]) -> None:
    """A line for each scan, then one for all."""
    every: list[float] = []
    for label, outcome in known.items():
        here, there = counted.get(f"this, {label}"), counted.get(f"other, {label}")
        if here is None or there is None:
            print(f"{label}: {outcome}")
            continue
        ratios = [a / b for a, b in zip(here, there, strict=True)]
        every += ratios
        print(
            f"{label}: this {statistics.median(here):.1f} ms, other {statistics.median(there):.1f} ms, "
            f"ratio {_describe(ratios)}; {outcome}"
        )
    if every:
        print(f"all scans: ratio {_describe(every)}")


def _describe(ratios: list[float]) -> str:
    ratio = percentile(ratios, 50)
    return f"{ratio.value:.3f}" + (f" ({ratio.low:.3f}..{ratio.high:.3f})" if ratio.low and ratio.high else "")


def main() -> None:
    """Measure and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs for each scan and pair of processes")
    parser.add_argument("folders", nargs="*")
    arguments = parser.parse_args()
    if not (arguments.against / "ct3d_edge" / "__init__.py").is_file():
        parser.error(f"{arguments.against} is no checkout: it holds no ct3d_edge")
    monitor = SystemMonitor(WallClock())
    with tempfile.TemporaryDirectory() as place:
        found = resolve_scans(arguments.folders, Path(place), DEFAULT_FOLDERS)
        scans = {f"{number} {scan.name}": scan.resolve() for number, scan in enumerate(found, 1)}
        paths = {"this": ROOT, "other": arguments.against.resolve()}
        warmup, counted, known = measure(paths, scans, monitor, arguments.rounds)
    report(counted, known)
    print("\n".join(interference(monitor.snapshots)))
    first, rest = ({name: tuple(taken) for name, taken in times.items()} for times in (warmup, counted))
    samples = Samples(first, rest)
    question = "Reading and preprocessing in this checkout and in another one"
    conditions = {"rounds": arguments.rounds, "processes": PROCESSES, "scans": known}
    seen = tuple(monitor.snapshots)
    save_record(
        BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples, {}, "in turn", seen), "against"
    )


if __name__ == "__main__":
    main()
