"""How much faster and smaller are light networks than the tutorial's, each in its best form?

    python -m bench.light [ROUNDS]

Networks with random weights, which take as long as trained ones: those of `train --network`, and thinner or coarser
ones beside them, each as `export` writes it at level fast (the tutorial's also as tf2onnx writes it). All run in turn
on one network input, on two threads, then again on one; memory added by session and runs is that of a fresh process
each. Every sample goes to bench/results/light.json.
"""

import statistics
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.compiler import added_memory, operator_times
from bench.make_fixture import randomize_statistics
from bench.save_record import save_record
from bench.sessions import PACKAGES, THREADS, open_session, run_session
from ct3d_edge.contract import Contract
from ct3d_edge.keras_backend import import_keras
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.system.machine import describe_machine

if TYPE_CHECKING:
    from ct3d_edge.training.network import NetworkSpec

ROUNDS, WARMUP = 21, 3
PLAIN, TUTORIAL_FAST = "tutorial, tf2onnx", "tutorial"
FULL = Contract.shape


class Subject(NamedTuple):
    """A file to be timed, and what it was made of."""

    data: bytes
    shape: tuple[int, int, int]
    facts: dict[str, Any]


def list_candidates() -> list[tuple["NetworkSpec", tuple[int, int, int]]]:
    """Networks with their input sizes: those that `train` has, then others beside them."""
    from ct3d_edge.training.network import NETWORKS, NetworkSpec

    others = [
        NetworkSpec("stem-32-64-128-256", (32, 64, 128, 256), stem_stride=2, stem_pool=False),
        NetworkSpec("stem-32-64-128", (32, 64, 128), stem_stride=2, hidden_units=128),
        NetworkSpec("stem-16-32-64", (16, 32, 64), stem_stride=2, hidden_units=128),
        NetworkSpec("8-32-64-128", (8, 32, 64, 128), hidden_units=128),
    ]
    coarse = [(NETWORKS[name], size) for name in ("narrow", "stem") for size in ((96, 96, 64), (64, 64, 64))]
    return [*((spec, FULL) for spec in (*NETWORKS.values(), *others)), *coarse]


def make_subjects() -> dict[str, Subject]:
    """Name to file, the tutorial's as tf2onnx writes it first."""
    made: dict[str, Subject] = {}
    for spec, shape in list_candidates():
        name = spec.name if shape == FULL else f"{spec.name}, {'x'.join(map(str, shape))}"
        plain, fast = make_files(spec, shape)
        if not made:
            made[PLAIN] = plain
        made[name] = fast
        print(f"made {name}", flush=True)
    return made


def make_files(spec: "NetworkSpec", shape: tuple[int, int, int]) -> tuple[Subject, Subject]:
    """A network with random weights, as tf2onnx writes it, and as `export` does at level fast."""
    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
    from ct3d_edge.conversion.passes.lower_conv3d.kernel_storage import store_kernels_untransformed
    from ct3d_edge.conversion.passes.pipeline import optimize_graph

    network = spec.build(*shape)
    randomize_statistics(network)
    plain = convert_to_onnx(network, Contract(shape=shape))
    fast, _ = store_kernels_untransformed(optimize_graph(plain, "fast", strict=True).proto)
    facts = {"filters": spec.filters, "stem_stride": spec.stem_stride, "weights": network.count_params()}
    return Subject(plain.SerializeToString(), shape, facts), Subject(fast.SerializeToString(), shape, facts)


def time_subjects(subjects: Mapping[str, Subject], threads: int, rounds: int) -> Samples:
    """All in turn in one process, each on its own network input."""
    contestants = {
        name: partial(run_session, open_session(subject.data, threads=threads), _make_batch(subject.shape))
        for name, subject in subjects.items()
    }
    return measure_interleaved(contestants, rounds, warmup=WARMUP)


def describe_subject(subject: Subject) -> dict[str, Any]:
    """Facts, sizes, memory of a fresh process, and the time of each operator."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "model.onnx")
        file.write_bytes(subject.data)
        memory = added_memory(file, 1)
    operators = operator_times(subject.data, _make_batch(subject.shape))
    sizes = {"file_bytes": len(subject.data), "input": subject.shape}
    return {**subject.facts, **sizes, "memory_bytes": memory, "operator_ms": operators}


def _make_batch(shape: tuple[int, int, int]) -> np.ndarray:
    return make_phantom_volume(1, shape).reshape(1, *shape, 1)


def report(two: Samples, one: Samples, subjects: dict[str, Any]) -> None:
    """A row for each file: times, times faster than both of the tutorial's files, memory, size, weights."""
    print(f"{'':26}      ms 1 thread x tf2onnx x fast added MB file MB   weights")
    for name, taken in two.counted.items():
        facts = subjects[name]
        against = [
            statistics.median(a / b for a, b in zip(two.counted[base], taken, strict=True))
            for base in (PLAIN, TUTORIAL_FAST)
        ]
        print(
            f"{name:26} {statistics.median(taken):7.1f} {statistics.median(one.counted[name]):8.1f} "
            f"{against[0]:9.2f} {against[1]:6.2f} {facts['memory_bytes']['session_and_runs'] / 1e6:8.1f} "
            f"{facts['file_bytes'] / 1e6:7.2f} {facts['weights']:9,}"
        )


def measure(rounds: int) -> BenchRecord:
    """Make, time and weigh all candidates."""
    subjects = make_subjects()
    two, one = (time_subjects(subjects, threads, rounds) for threads in (THREADS, 1))
    facts = {name: describe_subject(subject) for name, subject in subjects.items()}
    report(two, one, facts)
    conditions = {"threads": THREADS, "batch": 1, "subjects": facts}
    warmup, counted = (
        {**taken, **{f"{name}, 1 thread": durations for name, durations in alone.items()}}
        for taken, alone in ((two.warmup, one.warmup), (two.counted, one.counted))
    )
    return BenchRecord(
        "Light networks against the tutorial's: time, memory, size",
        describe_machine(PACKAGES),
        conditions,
        {},
        Samples(warmup, counted),
        arrangement="in turn",
    )


def main() -> None:
    """Measure and keep the record."""
    import_keras()
    save_record(measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS), "light")


if __name__ == "__main__":
    main()
