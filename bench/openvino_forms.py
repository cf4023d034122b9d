"""Which form of a file is fastest in OpenVINO, and where does its time go?

    python -m bench.openvino_forms PLAIN.onnx [ROUNDS]

PLAIN.onnx is the network as tf2onnx wrote it (`export --optimize none`); the forms are made from it. They run in turn
in OpenVINO on one thread, in float32, in bfloat16 where the CPU has it, and as int8 files. Counted is the processor
time of the process, which other programs disturb less than the time on the clock. The times of layers are OpenVINO's
own, on the clock (PERF_COUNT). Needs `pip install openvino`. Everything goes to bench/results/openvino_forms.json, or
to openvino_forms_amx.json on a processor with matrix units.
"""

import json
import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np
import onnx

from bench.markdown import markdown_table
from bench.save_record import RESULTS
from bench.sessions import PACKAGES, parse_arguments
from ct3d_edge.conversion.graph_variant import CompileOptions, make_variant, rewrite_graph
from ct3d_edge.conversion.parity.parity_data import load_calibration_data
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.system.machine import describe_machine, detect_cpu_features

ROUNDS = 15

FORMS = {
    "none": CompileOptions("none"),
    "exact": CompileOptions("exact", "openvino"),
    "fast for openvino": CompileOptions("fast", "openvino"),
    "fast for cpu": CompileOptions("fast", "cpu"),
    "int8, exact": CompileOptions("exact", "openvino", precision="int8"),
    "int8, fast for openvino": CompileOptions("fast", "openvino", precision="int8"),
    "int8, fast for cpu": CompileOptions("fast", "cpu", precision="int8"),
}

MAX_LAYERS = 8
"""Layers of a form in the record, the slowest first."""


def make_form(model: ModelFile, options: CompileOptions) -> bytes:
    """The file of one form."""
    proto = onnx.ModelProto.FromString(model.data)
    calibration = load_calibration_data(None, None, model.contract)
    made = make_variant(proto, rewrite_graph(proto, options), options, model.contract, calibration).proto
    del made.metadata_props[:]
    return bytes(made.SerializeToString())


def compile_form(data: bytes, precision: str, shape: tuple[int, ...]) -> Any:
    """A request of OpenVINO on one thread."""
    import openvino

    core = openvino.Core()
    network = core.read_model(data)
    network.reshape(list(shape))
    config = {"INFERENCE_PRECISION_HINT": precision, "PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(network, "CPU", config).create_infer_request()


def measure(requests: dict[str, Any], volume: np.ndarray, rounds: int) -> dict[str, dict[str, Any]]:
    """Processor ms of each round, and the median ms of each layer, by form."""
    found: dict[str, dict[str, Any]] = {form: {"samples_ms": [], "layers": defaultdict(list)} for form in requests}
    for number in range(rounds + 1):
        for form, request in requests.items():
            begin = time.process_time()
            request.infer({0: volume})
            taken = 1e3 * (time.process_time() - begin)
            if number == 0:
                continue
            found[form]["samples_ms"].append(taken)
            for layer in request.get_profiling_info():
                name = f"{layer.node_type} {layer.exec_type} {layer.node_name}"
                found[form]["layers"][name].append(1e3 * layer.real_time.total_seconds())
    for row in found.values():
        medians = {name: statistics.median(taken) for name, taken in row["layers"].items()}
        row["layers"] = dict(sorted(medians.items(), key=lambda item: -item[1])[:MAX_LAYERS])
    return found


def main() -> None:
    """Measure one network and print its tables."""
    path, rounds = parse_arguments(str(__doc__), ROUNDS)
    model = load_model_file(path)
    shape = (1, *model.contract.input_shape)
    volume = np.random.default_rng(0).random(shape, np.float32)
    precisions = ["f32", *(["bf16"] if (detect_cpu_features() or {}).get("BF16") else [])]
    files = {form: make_form(model, options) for form, options in FORMS.items()}
    requests = {
        f"{precision}: {form}": compile_form(data, precision, shape)
        for precision in precisions
        for form, data in files.items()
        if precision == "f32" or not form.startswith("int8")
    }
    found = measure(requests, volume, rounds)
    plain = found["f32: none"]["samples_ms"]
    lines = []
    for form, row in found.items():
        ratio = statistics.median(own / other for own, other in zip(row["samples_ms"], plain, strict=True))
        lines.append((form, f"{statistics.median(row['samples_ms']):.0f}", f"{ratio:.2f}"))
    print(markdown_table(("form", "processor ms", "of f32: none"), lines))
    for form, row in found.items():
        print(form, *(f"  {taken:7.2f} ms  {name}" for name, taken in row["layers"].items()), sep="\n")
    record = {"environment": describe_machine((*PACKAGES, "openvino")), "rounds": rounds, "forms": found}
    amx = (detect_cpu_features() or {}).get("AMX")
    path = RESULTS / f"openvino_forms{'_amx' if amx else ''}.json"
    with atomic_file(path) as stream:
        stream.write(json.dumps(record, indent=1).encode() + b"\n")
    print(f"everything: {path}")


if __name__ == "__main__":
    main()
