"""Does augmentation starve training? Time a step with each augmentation against the bare step.

    python -m bench.training_step [--shape W H D] [--batch-size N]

The tutorial's network on noise in the cache's files, in turn in one process. Bare: the same batch, already in memory,
again and again. The others stream batches as training does: files mapped, changed, stacked, ready before they are
needed. Each turn opens its stream, makes one uncounted step, and counts the next ones, so that none lives on batches
that were made in another's time. Keeps every sample in bench/results/training_step.json.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.save_record import save_record
from ct3d_edge.augmentation.registry import AUGMENTATIONS, get_augmentation
from ct3d_edge.contract import Contract
from ct3d_edge.keras_backend import import_keras
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.system.machine import describe_machine

ROUNDS, STEPS, SCANS = 5, 4, 16
PACKAGES = ("ct3d-edge", "keras", "tensorflow", "numpy", "scipy")

Streams = dict[str, Callable[[], Iterator[Any]]]


def make_streams(folder: Path, contract: Contract, batch_size: int) -> Streams:
    """What feeds the step, by name; each call opens it anew."""
    import tensorflow as tf

    from ct3d_edge.training.batches import BatchOrder, batches
    from ct3d_edge.training.data import VolumeFiles

    draw = np.random.default_rng(0)
    files = tuple(folder / f"{n}.npy" for n in range(SCANS))
    for file in files:
        np.save(file, draw.random(contract.shape, np.float32))
    volumes, labels = VolumeFiles(files, contract.shape), (np.arange(SCANS) % 2).astype(np.float32)
    order, epochs = BatchOrder(range(SCANS), batch_size, seed=0), range(1000)
    one = next(iter(batches(volumes, labels, order)))
    made: Streams = {"bare": lambda: iter(tf.data.Dataset.from_tensors(one).repeat())}
    for name in AUGMENTATIONS:
        changes = None if name == "none" else get_augmentation(name, contract)
        made[name] = lambda changes=changes: iter(batches(volumes, labels, order, epochs, changes))  # type: ignore[misc]
    return made


def time_steps(step: Callable[..., Any], stream: Iterator[Any]) -> tuple[float, list[float]]:
    """One uncounted and some counted steps, in ms; a step's time includes the wait for its batch."""
    taken = []
    for _ in range(STEPS + 1):
        begun = time.perf_counter()
        step(*next(stream))
        taken.append((time.perf_counter() - begun) * 1e3)
    return taken[0], taken[1:]


def measure(contract: Contract, batch_size: int, folder: Path) -> Samples:
    """Time all streams in turn, after a turn that is thrown away: the first step builds the graph."""
    from ct3d_edge.training.network import TUTORIAL, build_untrained, compile_for
    from ct3d_edge.training.presets import DEFAULT

    model = build_untrained(TUTORIAL, contract, DEFAULT.momentum, None)
    compile_for(model, DEFAULT, SCANS // batch_size)
    made = make_streams(folder, contract, batch_size)
    time_steps(model.train_on_batch, made["bare"]())
    warmup: dict[str, tuple[float, ...]] = dict.fromkeys(made, ())
    counted: dict[str, tuple[float, ...]] = dict.fromkeys(made, ())
    for _ in range(ROUNDS):
        for name, stream in made.items():
            first, rest = time_steps(model.train_on_batch, stream())
            warmup[name] += (first,)
            counted[name] += tuple(rest)
    return Samples(warmup, counted)


def report(samples: Samples) -> None:
    """Medians, and the median of the ratios round by round."""
    bare = [statistics.median(part) for part in split_rounds(samples.counted["bare"])]
    for name, taken in samples.counted.items():
        ratios = [statistics.median(part) / base for part, base in zip(split_rounds(taken), bare, strict=True)]
        print(f"{name:14} {statistics.median(taken):8.1f} ms a step  {statistics.median(ratios):5.3f} of the bare step")


def split_rounds(taken: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The samples of each round."""
    return [taken[start : start + STEPS] for start in range(0, len(taken), STEPS)]


def main() -> None:
    """Measure at the size named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=Contract.shape, metavar=("W", "H", "D"))
    parser.add_argument("--batch-size", type=int, default=2)
    arguments = parser.parse_args()
    import_keras()
    contract = Contract(shape=tuple(arguments.size))
    with tempfile.TemporaryDirectory() as folder:
        samples = measure(contract, arguments.batch_size, Path(folder))
    report(samples)
    conditions = {"size": contract.shape, "batch_size": arguments.batch_size, "rounds": ROUNDS, "steps": STEPS}
    question = "A training step with and without augmentation"
    record = BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples, arrangement="in turn")
    save_record(record, "training_step")


if __name__ == "__main__":
    main()
