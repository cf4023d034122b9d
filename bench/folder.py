"""How long does a folder of scans take, from files to probabilities: the tutorial's path, and ours in several ways?

    python -m bench.folder [FOLDER] [--model FILE]

Forty scans, the real ones (or phantoms) repeated by links. Contestants in turn in one process: one scan after the
other; a reader ahead of a session that has all cores; whole scans side by side, each run of the network on one core;
reading and preprocessing alone, one scan after the other; and the tutorial's path (nibabel, SciPy, Keras predict) on as
many scans as the folder has different ones. What the machine could do at best follows from the CPU seconds of each
stage, measured alone on one core, and from the cores that other programs left to this one meanwhile (Linux:
/proc/stat), which are recorded too. Keeps every sample in bench/results/folder.json, those of another model in
folder_MODEL.json.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.peers import tutorial
from bench.save_record import save_record
from bench.scans import resolve_scans
from ct3d_edge.inference.predict_many import Schedule, predict_scans
from ct3d_edge.inference.prepare import prepare_scan, prepare_source
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import count_usable_cores, describe_machine

SCANS = 40
ROUNDS = 4
PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "scipy", "nibabel", "isal", "keras", "tensorflow")

CORES = count_usable_cores()
PLANS = {
    "one after the other": Schedule(0, False, CORES, 0, 1),
    "1 reading ahead": Schedule(1, False, CORES, 2, 1),
    "whole scans side by side": Schedule(CORES, True, 1, 2 * CORES, 1),
}
TUTORIAL, READING = "tutorial", "reading and preprocessing"

IDLE_COLUMNS = slice(3, 5)
"""Columns of /proc/stat in which nobody works: idle, and waiting for a disk (proc(5))."""


class ExternalLoad:
    """How many cores other programs took while each contestant ran."""

    def __init__(self) -> None:
        self.cores: dict[str, list[float]] = {}

    def watch(self, name: str, work: Callable[[], object]) -> Callable[[], object]:
        """The same work, with its neighbours counted."""

        def watched() -> object:
            busy, own, start = busy_seconds(), time.process_time(), time.monotonic()
            result = work()
            others = busy_seconds() - busy - (time.process_time() - own)
            self.cores.setdefault(name, []).append(max(0.0, others / (time.monotonic() - start)))
            return result

        return watched


def busy_seconds() -> float:
    """Core seconds in which this machine did not idle since it started, those that its host took included."""
    ticks = list(map(int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]))
    return (sum(ticks) - sum(ticks[IDLE_COLUMNS])) / os.sysconf("SC_CLK_TCK")


def link_repeatedly(scans: list[Path], folder: Path, count: int) -> list[Path]:
    """So many links to a few scans."""
    links = []
    for number, scan in zip(range(count), itertools.cycle(scans), strict=False):
        links.append(folder / f"{number:04}_{scan.name}")
        links[-1].symlink_to(scan.resolve())
    return links


def make_peers(
    scans: list[Path], runners: dict[int, Runner], network: Any, neighbours: ExternalLoad
) -> dict[str, Callable[[], object]]:
    """What is timed in turn; each goes through the whole folder, the tutorial through one of each scan."""
    different = len({scan.resolve() for scan in scans})

    def through(plan: Schedule) -> Callable[[], object]:
        return lambda: [a.record.has_prediction for a in predict_scans(scans, runners[plan.threads], plan)]

    ours = {name: through(plan) for name, plan in PLANS.items()}
    contract = next(iter(runners.values())).contract
    others = {
        READING: lambda: [prepare_scan(scan, contract).failed for scan in scans],
        TUTORIAL: lambda: [predict_with_keras(scan, network) for scan in scans[:different]],
    }
    everybody = ours | others
    return {name: neighbours.watch(name, work) for name, work in everybody.items()}


def build_tutorial_network() -> Any:
    """The network with random weights, which take as long as trained ones."""
    from ct3d_edge.training.network import TUTORIAL

    return TUTORIAL.build(128, 128, 64)


def predict_with_keras(path: Path, network: Any) -> float:
    """The tutorial's path from a file to a probability."""
    return float(network.predict(tutorial.preprocess(path)[None, ..., None], verbose=0)[0, 0])


def cpu_seconds(scans: list[Path], runner: Runner) -> dict[str, float]:
    """CPU time of reading with preprocessing, and of the network on one core; medians over the scans, in ms."""
    taken: dict[str, list[float]] = {"read and preprocess": [], "infer": []}
    for scan in scans:
        start = time.process_time()
        prepared = prepare_scan(scan, runner.contract).model_input
        middle = time.process_time()
        if prepared is None:
            raise SystemExit(f"{scan} cannot be read")
        runner.infer(prepared.volume[None])
        taken["read and preprocess"].append((middle - start) * 1e3)
        taken["infer"].append((time.process_time() - middle) * 1e3)
    return {f"CPU, {stage}": statistics.median(samples) for stage, samples in taken.items()}


def record_stages(scans: list[Path], runner: Runner, plan: Schedule) -> list[dict[str, Any]]:
    """Begin and end in s of each stage of each scan, and the thread that did it, in one run through the folder."""
    seen: list[dict[str, Any]] = []
    began = time.perf_counter()

    def noted(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter() - began
            result = work(*args, **options)
            end = time.perf_counter() - began
            seen.append({"stage": stage, "thread": threading.get_ident(), "begin_s": start, "end_s": end})
            return result

        return timed

    with (
        patch("ct3d_edge.inference.predict_many.prepare_source", noted("read and preprocess", prepare_source)),
        patch.object(runner, "outputs", noted("infer", runner.outputs)),
    ):
        list(predict_scans(scans, runner, plan))
    return number_threads(seen)


def number_threads(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with threads counted from 0."""
    threads = list(dict.fromkeys(one["thread"] for one in seen))
    return [one | {"thread": threads.index(one["thread"])} for one in seen]


def report(samples: Samples, cpu: float, different: int, others: dict[str, list[float]]) -> None:
    """A line a contestant: ms a scan, against the tutorial, and against what the CPU seconds allow here."""
    print(f"{cpu:.0f} CPU ms a scan: on {CORES} cores at best {cpu / CORES:.0f} ms a scan")
    tutorial_ms = [taken / different for taken in samples.counted[TUTORIAL]]
    print(
        f"{TUTORIAL:26} {statistics.median(tutorial_ms):6.0f} ms a scan, others took "
        f"{format_cores(others[TUTORIAL])} cores"
    )
    for name in PLANS:
        each = [taken / SCANS for taken in samples.counted[name]]
        faster = statistics.median(slow / fast for slow, fast in zip(tutorial_ms, each, strict=True))
        shares = [cpu / max(CORES - core, 0.1) / taken for taken, core in zip(each, others[name], strict=True)]
        print(
            f"{name:26} {statistics.median(each):6.0f} ms a scan, others took {format_cores(others[name])} cores; "
            f"{faster:4.1f} x the tutorial; {cpu / CORES / statistics.median(each):4.0%} of best, "
            f"{statistics.median(shares):4.0%} on the cores left"
        )
    alone, one = samples.counted[READING], samples.counted[next(iter(PLANS))]
    ratio = statistics.median(whole / part for whole, part in zip(one, alone, strict=True))
    print(f"{READING:26} {statistics.median(alone) / SCANS:6.0f} ms a scan; with the network {ratio:.2f} of that")


def format_cores(cores: list[float]) -> str:
    """Of each round."""
    return "/".join(f"{core:.1f}" for core in cores)


def main() -> None:
    """Run on the folder named, the real scans, or phantoms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        different = resolve_scans(options.folder, Path(place))
        scans = link_repeatedly(different, Path(place), SCANS)
        file = load_model_file(options.model or default_model_path())
        runners = {threads: Runner(file, SessionRequest("cpu", threads=threads)) for threads in {1, CORES}}
        cpu = cpu_seconds(scans[:8], runners[1])
        neighbours = ExternalLoad()
        samples = measure_interleaved(make_peers(scans, runners, build_tutorial_network(), neighbours), ROUNDS)
        cpu_after = cpu_seconds(scans[:8], runners[1])
        stages = {name: record_stages(scans[:8], runners[plan.threads], plan) for name, plan in PLANS.items()}
    others = {name: cores[1:] for name, cores in neighbours.cores.items()}  # the first was the warm-up
    report(samples, (sum(cpu.values()) + sum(cpu_after.values())) / 2, len(different), others)
    record = BenchRecord(
        "A folder of scans, from files to probabilities",
        describe_machine(PACKAGES),
        {
            "scans": SCANS,
            "different": len(different),
            "scans of the tutorial's path": len(different),
            "plans": {name: plan.describe() for name, plan in PLANS.items()},
            "receipt": runners[1].run_report.to_dict(),
            "cpu_ms_a_scan": {"before": cpu, "after": cpu_after},
            "cores_taken_by_others": others,
            "stages_of_eight_scans": stages,
        },
        {},
        samples,
        arrangement="in turn",
    )
    save_record(record, f"folder_{options.model.stem}" if options.model else "folder")


if __name__ == "__main__":
    main()
