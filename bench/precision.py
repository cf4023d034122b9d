"""What do fewer bits bring and cost: file, speed, probability?

    python -m bench.precision MODEL.onnx [ROUNDS]

The subject is a file as tf2onnx wrote it (`export --optimize none`). Each variant is calibrated on phantoms, its
answers to other phantoms are compared with the subject's, and all are timed in turn in one process. Every sample goes
to bench/results/precision.json.
"""

import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.compiler import ROUNDS
from bench.save_record import save_record
from bench.sessions import PACKAGES, THREADS, open_session, parse_arguments, run_session
from ct3d_edge.conversion.graph_variant import CompileOptions, GraphVariant, make_variant, rewrite_graph
from ct3d_edge.conversion.parity.parity_data import load_calibration_data, load_parity_dataset
from ct3d_edge.conversion.parity.parity_report import compare_predictions
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.system.machine import describe_machine
from ct3d_edge.temperature_scaling import to_probabilities

PLANS = {
    "fp32": CompileOptions(),
    "fp32, weights fp16": CompileOptions(weight_dtype="fp16"),
    "fp16": CompileOptions(precision="fp16"),
    "int8": CompileOptions(precision="int8"),
    "int8, 3D": CompileOptions("exact", precision="int8"),
}


def make_variants(model: ModelFile) -> dict[str, GraphVariant]:
    """Name to graph, all from one subject and one calibration set."""
    subject = onnx.ModelProto.FromString(model.data)
    calibration = load_calibration_data(None, None, model.contract)
    inputs = replace(calibration, volumes=list(calibration.volumes))
    return {
        name: make_variant(subject, rewrite_graph(subject, plan), plan, model.contract, inputs)
        for name, plan in PLANS.items()
    }


def predict(data: bytes, volumes: list[NDArray[np.float32]], model: ModelFile) -> NDArray[np.float64]:
    """``(volumes, classes)``."""
    running = open_session(data)
    return np.vstack([to_probabilities(run_session(running, volume), model.contract) for volume in volumes])


def measure(path: Path, rounds: int) -> BenchRecord:
    """Compare and time every variant."""
    model = load_model_file(path)
    variants = make_variants(model)
    parity = load_parity_dataset(None, model.contract)
    volumes = [volume.reshape(1, *model.contract.input_shape) for volume in parity.volumes]
    expected = predict(model.data, volumes, model)
    files = {name: variant.proto.SerializeToString(deterministic=True) for name, variant in variants.items()}
    shown = files | {
        f"{name}, rehearsed": variant.fp16_simulated.SerializeToString()
        for name, variant in variants.items()
        if variant.fp16_simulated
    }
    found = {name: predict(data, volumes, model) for name, data in shown.items()}
    decisions = {n: vars(compare_predictions(expected, a, model.contract, parity.truth)) for n, a in found.items()}
    sessions = {name: open_session(data) for name, data in files.items()}
    samples = measure_interleaved(
        {name: partial(run_session, running, volumes[0]) for name, running in sessions.items()}, rounds
    )
    conditions = {
        "subject": path.name,
        "threads": THREADS,
        "batch": 1,
        "proven on": parity.description,
        "file_bytes": {"subject": len(model.data)} | {name: len(data) for name, data in files.items()},
        "decisions": decisions,
    }
    report(samples, conditions)
    return BenchRecord(
        "Fewer bits: file, speed and answers",
        describe_machine(PACKAGES),
        conditions,
        {},
        samples,
        arrangement="in turn",
    )


def report(samples: Samples, conditions: dict[str, Any]) -> None:
    """One line a variant: size, median, median of the ratios round by round, largest difference."""
    single = samples.counted["fp32"]
    for name, taken in samples.counted.items():
        ratio = statistics.median(a / b for a, b in zip(single, taken, strict=True))
        apart = conditions["decisions"][name]
        size = conditions["file_bytes"][name] / 1e6
        print(
            f"{name:20} {size:5.1f} MB {statistics.median(taken):7.1f} ms {ratio:5.2f} x  "
            f"difference {apart['probability_difference']:.1e}, {apart['label_flips']} flips"
        )


def main() -> None:
    """Measure the file named."""
    save_record(measure(*parse_arguments(str(__doc__), ROUNDS)), "precision")


if __name__ == "__main__":
    main()
