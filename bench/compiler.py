"""What does each rewrite of the graph bring, alone and together, in time and in memory?

    python -m bench.compiler MODEL.onnx [ROUNDS]

The subject is a file as tf2onnx wrote it: `ct3d-edge export --model RUN --optimize none --out MODEL.onnx`. Every
variant must answer as the subject does within 1e-5 before anything is timed. Then: all variants in turn in one process
on two threads; memory added by session and runs, in a fresh process each; the time of each operator by ONNX Runtime's
profiler. Every sample goes to bench/results/compiler.json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.save_record import save_record
from bench.sessions import PACKAGES, THREADS, open_session, parse_arguments, run_session
from ct3d_edge.conversion.passes.lower_conv3d import winograd_depth
from ct3d_edge.conversion.passes.pass_runner import Pass, run_passes
from ct3d_edge.conversion.passes.pipeline import (
    CACHE_TILING_PASS,
    EXACT_PASSES,
    FAST_PASSES,
    LAYOUT_PASS,
    LOWER_CONV3D_RULES,
    ROW_INTERLEAVE_PASS,
    WINOGRAD_3D_PASS,
    optimize_graph,
)
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import read_peak_bytes, read_resident_bytes
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.system.machine import describe_machine

ROUNDS, TOLERANCE = 15, 1e-5
MEMORY_RUNS, PROFILE_RUNS = 3, 5
BATCH = 8
SUBJECT = "tf2onnx"

FOLDS, CROP = EXACT_PASSES[:-1], EXACT_PASSES[-1]
UNFOLD = (Pass("planes", LOWER_CONV3D_RULES), LAYOUT_PASS)
FILTER = (Pass("planes", (winograd_depth.RULE, *LOWER_CONV3D_RULES)), LAYOUT_PASS)
NEST = (WINOGRAD_3D_PASS, *UNFOLD)
WATERFALL: dict[str, tuple[Pass, ...]] = {
    "folds alone": FOLDS,
    "crop alone": (CROP,),
    "unfolding alone": UNFOLD,
    "filtering alone": FILTER,
    "filtering along all axes, unfolding alone": NEST,
    "rows and unfolding alone": (ROW_INTERLEAVE_PASS, *UNFOLD),
    "folds, crop": EXACT_PASSES,
    "folds, crop, unfolding": (*EXACT_PASSES, *UNFOLD),
    "folds, crop, filtering": (*EXACT_PASSES, *FILTER),
    "folds, crop, rows, filtering": (*EXACT_PASSES, ROW_INTERLEAVE_PASS, *FILTER),
    "folds, crop, blocks, rows, filtering": (*EXACT_PASSES, CACHE_TILING_PASS, ROW_INTERLEAVE_PASS, *FILTER),
    "folds, crop, blocks, rows, filtering along all axes": (*EXACT_PASSES, *FAST_PASSES),
}
"""Passes alone, then one more at a time; the last one is `fast`."""


def make_variants(subject: onnx.ModelProto) -> dict[str, bytes]:
    """Name to file."""
    made = {SUBJECT: subject}
    made |= {name: run_passes(subject, passes, strict=True).proto for name, passes in WATERFALL.items()}
    made |= {
        "exact": optimize_graph(subject, "exact", strict=True).proto,
        "fast": optimize_graph(subject, "fast", strict=True).proto,
        "small": optimize_graph(subject, "small", strict=True).proto,
    }
    return {name: proto.SerializeToString(deterministic=True) for name, proto in made.items()}


def operator_times(data: bytes, batch: NDArray[np.float32]) -> dict[str, float]:
    """Medians in ms by ONNX Runtime's profiler, added up for each operator type, longest first."""
    with tempfile.TemporaryDirectory() as place:
        running = open_session(data, profile=str(Path(place, "profile")))
        for _ in range(PROFILE_RUNS):
            run_session(running, batch)
        events = json.loads(Path(running.end_profiling()).read_text())
    taken: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            taken.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"] / 1000)
    totals: dict[str, float] = {}
    for (operator, _), durations in taken.items():
        totals[operator] = totals.get(operator, 0.0) + statistics.median(durations[1:])
    longest = sorted(totals.items(), key=lambda pair: -pair[1])
    return {operator: round(total, 3) for operator, total in longest if total > 0.05}


def added_memory(file: Path, batch: int) -> dict[str, int]:
    """Bytes that a fresh process gains by opening and running a file; also its peak."""
    command = [sys.executable, "-m", "bench.compiler", "--memory", str(file), str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def report_memory(file: Path, batch: int) -> None:
    """What `added_memory` runs: scans of a batch in one run, or in turn where the file was made for that."""
    data = file.read_bytes()
    shape = tuple(axis.dim_value for axis in onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim[1:])
    volumes = np.stack([make_phantom_volume(1, shape[:3]).reshape(shape)] * batch)
    sizes = [read_resident_bytes()]
    running = open_session(data)
    sizes.append(read_resident_bytes())
    for _ in range(MEMORY_RUNS):
        for part in volumes[:, None] if file.stem == "small" else (volumes,):
            run_session(running, part)
    before, opened, used, peak = (size or 0 for size in (*sizes, read_resident_bytes(), read_peak_bytes()))
    print(json.dumps({"session": opened - before, "session_and_runs": used - before, "peak": peak - before}))


def measure(path: Path, rounds: int) -> BenchRecord:
    """Check, time and weigh every variant."""
    subject = onnx.load(path)
    files = make_variants(subject)
    shape = tuple(axis.dim_value for axis in subject.graph.input[0].type.tensor_type.shape.dim[1:])
    batch = np.stack([make_phantom_volume(seed, shape[:3]).reshape(shape) for seed in (1,)])
    sessions = {name: open_session(data) for name, data in files.items()}
    expected = run_session(sessions[SUBJECT], batch)
    differences = {
        name: float(np.abs(run_session(running, batch) - expected).max()) for name, running in sessions.items()
    }
    if max(differences.values()) > TOLERANCE:
        raise SystemExit(f"a variant does not answer as the subject does; nothing was timed: {differences}")
    samples = measure_interleaved(
        {name: partial(run_session, running, batch) for name, running in sessions.items()}, rounds
    )
    del sessions
    conditions = {
        "subject": path.name,
        "threads": THREADS,
        "batch": 1,
        "largest_difference": differences,
        "file_bytes": {name: len(data) for name, data in files.items()},
        "nodes": {name: len(onnx.load_from_string(data).graph.node) for name, data in files.items()},
        "memory_bytes": measure_memory(files),
        "operator_ms": {name: operator_times(files[name], batch) for name in (SUBJECT, "exact", "fast", "small")},
    }
    report(samples, conditions)
    question = "The tf2onnx file against what the passes make of it: time, memory, operators"
    return BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples)


def measure_memory(files: dict[str, bytes]) -> dict[str, dict[str, int]]:
    """Memory of the levels, for one scan and for a batch."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for name in (SUBJECT, "exact", "fast", "small"):
            file = Path(place, f"{name}.onnx")
            file.write_bytes(files[name])
            found[name] = added_memory(file, 1)
            found[f"{name}, batch of {BATCH}"] = added_memory(file, BATCH)
    return found


def report(samples: Samples, conditions: dict[str, Any]) -> None:
    """One line a variant: median, median of the ratios round by round."""
    slow = samples.counted[SUBJECT]
    for name, taken in samples.counted.items():
        ratio = statistics.median(a / b for a, b in zip(slow, taken, strict=True))
        print(f"{name:30} {statistics.median(taken):7.1f} ms  {ratio:5.2f} x  {conditions['nodes'][name]:4} nodes")
    for name, memory in conditions["memory_bytes"].items():
        print(f"{name:30} {memory['session_and_runs'] / 1e6:7.0f} MB added by session and runs")


def main() -> None:
    """Measure the model named."""
    if sys.argv[1:2] == ["--memory"]:
        report_memory(Path(sys.argv[2]), int(sys.argv[3]))
        return
    save_record(measure(*parse_arguments(str(__doc__), ROUNDS)), "compiler")


if __name__ == "__main__":
    main()
