"""What do the steps of the way to 8-bit integers do to the answers?

    python -m bench.rounding MODEL.onnx ... [--scans DIR]

Each subject is a file as tf2onnx wrote it (`export --optimize none`). For both forms of integers, with weights rounded
one by one and with the sums of kernels kept, and with ranges by percentile and entropy in place of the extremes: the
largest difference of a logit from the subject's on the phantoms of the parity check, on further ones, and on the scans
of a folder. All are calibrated on phantoms and run on
ONNX Runtime's CPU provider. Everything goes to bench/results/rounding.json.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod

from bench.save_record import RESULTS
from bench.sessions import PACKAGES, open_session, run_session
from ct3d_edge.conversion.graph_variant import CompileOptions, rewrite_graph
from ct3d_edge.conversion.parity.parity_data import NetworkInputs, load_calibration_data, load_parity_dataset
from ct3d_edge.conversion.passes.pipeline import Target
from ct3d_edge.conversion.precision.int8 import convert_to_int8, max_weight_integer, snap_to_grid
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.system.machine import describe_machine
from ct3d_edge.temperature_scaling import logit, to_probabilities

TARGETS: tuple[Target, ...] = ("cpu", "tensorrt")
EXTRA_SEEDS = range(41_000, 41_012)
"""Seeds far from those of training, proof and calibration."""

Batches = list[NDArray[np.float32]]


def load_volumes(model: ModelFile, scans: Path | None) -> dict[str, Batches]:
    """Network inputs by what they are."""
    parity = load_parity_dataset(None, model.contract).volumes
    made = {"parity check": parity, "further phantoms": NetworkInputs((), EXTRA_SEEDS, model.contract, "comparison")}
    if scans:
        made["scans"] = NetworkInputs(tuple(find_scans([scans])), range(0), model.contract, "comparison")
    return {name: _batches(volumes, model) for name, volumes in made.items()}


def quantization_steps(
    subject: onnx.ModelProto, target: Target, seen: Batches
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Weights rounded one by one; what `--precision int8` does; the same with ONNX Runtime's other ranges."""
    plan = CompileOptions(target=target, precision="int8")
    folded = rewrite_graph(subject, CompileOptions("exact", target, precision="int8")).proto
    single = rewrite_graph(folded, plan).proto
    yield "rounded one by one", convert_to_int8(single, iter(seen), target)[0]
    summed = rewrite_graph(snap_to_grid(folded, max_weight_integer(target)), plan).proto
    yield "sums kept", convert_to_int8(summed, iter(seen), target)[0]
    for method in (CalibrationMethod.Percentile, CalibrationMethod.Entropy):
        yield f"sums kept, {method.name.lower()}", convert_to_int8(summed, iter(seen), target, method)[0]


def predict(proto: onnx.ModelProto, batches: Batches, model: ModelFile) -> NDArray[np.float64]:
    """Probabilities of the last class."""
    running = open_session(proto.SerializeToString())
    return np.array([to_probabilities(run_session(running, batch), model.contract)[0][-1] for batch in batches])


def compare_roundings(path: Path, scans: Path | None) -> dict[str, Any]:
    """Target and step to the largest difference on each kind of volume."""
    model = load_model_file(path)
    subject = onnx.ModelProto.FromString(model.data)
    seen = _batches(load_calibration_data(None, None, model.contract).volumes, model)
    kinds = load_volumes(model, scans)
    expected = {kind: predict(subject, batches, model) for kind, batches in kinds.items()}
    found: dict[str, Any] = {"network input": model.contract.shape, "volumes": {k: len(b) for k, b in kinds.items()}}
    for target in TARGETS:
        for step, made in quantization_steps(subject, target, seen):
            gaps = {
                k: float(np.abs(logit(predict(made, b, model)) - logit(expected[k])).max()) for k, b in kinds.items()
            }
            found.setdefault(target, {})[step] = gaps
            print(f"{path.name} {target:8} {step:28}", "  ".join(f"{kind} {gap:.1e}" for kind, gap in gaps.items()))
    return found


def _batches(volumes: Any, model: ModelFile) -> Batches:
    return [volume.reshape(1, *model.contract.input_shape) for volume in volumes]


def main() -> None:
    """Compare the files named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--scans", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    told = {"environment": describe_machine(PACKAGES)}
    told |= {path.name: compare_roundings(path, arguments.scans) for path in arguments.models}
    RESULTS.mkdir(exist_ok=True)
    with atomic_file(RESULTS / "rounding.json") as stream:
        stream.write(json.dumps(told, indent=1).encode() + b"\n")
    print(f"everything: {RESULTS / 'rounding.json'}")


if __name__ == "__main__":
    main()
