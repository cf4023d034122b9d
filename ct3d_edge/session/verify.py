"""Rerun the golden test that travels in a model file, or make it anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.errors import ModelError, ProviderError
from ct3d_edge.formatting import plural
from ct3d_edge.modelfile.golden_input import BLEND_STEPS
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.model_file import GOLDEN_KEY, ModelFile, parse_model_file
from ct3d_edge.modelfile.signature import INTERCEPT_INPUT, POOLED_OUTPUT, SLOPE_INPUT, to_stored_voxels
from ct3d_edge.modelfile.tensor_sketch import TensorCollector, TensorSketch, choose_sensitive_tensors
from ct3d_edge.session.golden_search import make_golden_test
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

WHOLE_GRAPH_PROVIDERS = ("tensorrt", "nv-tensorrt-rtx")
"""Providers that compile a graph as a whole: to look into it is to run another one."""


@dataclass(frozen=True)
class GoldenTestResult:
    """Outcome of a golden test.

    Parameters
    ----------
    inputs
        How many were run.
    largest_difference
        Of any probability from what it was where the model was exported.
    tolerance
        What the model file allows.
    tensors
        Tensors that were compared, each with its largest difference as a part of its spread.
    tensor_tolerance
        What the model file allows of that.
    left_out
        Why tensors that the file knows were not compared; None if all were.
    limitation
        Why the test is weak; None if it is not.
    """

    inputs: int
    largest_difference: float
    tolerance: float
    tensors: tuple[tuple[str, float], ...] = ()
    tensor_tolerance: float = 0.0
    left_out: str | None = None
    limitation: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the device gives the expected probabilities and tensors; False with a NaN."""
        alike = all(difference <= self.tensor_tolerance for _, difference in self.tensors)
        return self.largest_difference <= self.tolerance and alike

    def describe(self, provider: str) -> tuple[str, ...]:
        """What was compared on a provider, a line each."""
        lines = [
            f"{plural(self.inputs, 'golden input')} on {provider}: largest difference of probability "
            f"{self.largest_difference:.1e}, tolerance {self.tolerance:.0e}"
        ]
        if self.tensors:
            name, worst = max(self.tensors, key=lambda entry: np.inf if np.isnan(entry[1]) else entry[1])
            lines.append(
                f"{plural(len(self.tensors), 'tensor')} inside: largest difference {worst:.1e} of the tensor's "
                f"spread at {name}, tolerance {self.tensor_tolerance:.0e}"
            )
        return (*lines, f"not compared: {self.left_out}") if self.left_out else tuple(lines)


def run_golden_test(runner: Runner) -> GoldenTestResult:
    """Run a model's golden inputs on an open session and compare.

    Tensors inside are computed by a second session with the same provider and options.

    Raises
    ------
    ModelError
        The CPU cannot run the graph with such outputs.
    ProviderError
        ONNX Runtime fails while running.
    """
    golden = runner.model.golden
    volumes = golden.volumes(runner.contract.shape)
    given = [_predict(runner, volume) for volume in volumes]
    found = np.vstack([probabilities for probabilities, _ in given])
    difference = float(np.abs(found - np.asarray(golden.expected)).max())
    compared, left_out = _compare(runner, volumes, [pooled for _, pooled in given])
    return GoldenTestResult(
        len(golden.inputs),
        difference,
        golden.tolerance,
        tuple(compared.items()),
        golden.tensor_tolerance,
        left_out,
        golden.limitation,
    )


def _predict(runner: Runner, volume: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """Probabilities, and pooled features of a file that gives them beside."""
    if runner.model.stored_voxels:
        return runner.infer_stored(*to_stored_voxels(volume, runner.contract, BLEND_STEPS)), None
    outputs = runner.outputs(volume[None])
    return outputs.probabilities, outputs.pooled


def _compare(
    runner: Runner, volumes: Sequence[NDArray[np.float32]], pooled: Sequence[NDArray[np.float32] | None]
) -> tuple[dict[str, float], str | None]:
    """Largest difference of each tensor, and why some were left out."""
    known = {sketch.name: sketch for sketch in runner.model.golden.tensors}
    beside = runner.model.pooled is not None
    found: dict[str, float] = {}

    def add(number: int, name: str, tensor: NDArray[Any]) -> None:
        found[name] = float(np.maximum(found.get(name, 0.0), known[name].difference(number, tensor)))  # keeps NaN

    if beside and POOLED_OUTPUT in known:
        for number, features in enumerate(pooled):
            add(number, POOLED_OUTPUT, np.asarray(features))
    inside = [name for name in known if not (beside and name == POOLED_OUTPUT)]
    left_out = _compare_inner_tensors(runner, inside, volumes, add) if inside else None
    return found, left_out


def _compare_inner_tensors(
    runner: Runner,
    names: Sequence[str],
    volumes: Sequence[NDArray[np.float32]],
    add: Callable[[int, str, NDArray[Any]], None],
) -> str | None:
    """Hand over tensors of each input; why that is not possible, if it is not."""
    on, several = runner.run_report.actual, plural(len(names), "tensor") + " inside"
    if on in WHOLE_GRAPH_PROVIDERS:
        return f"{several}, since {on} compiles the graph as a whole"
    try:
        tap = IntermediateOutputs(onnx.ModelProto.FromString(runner.model.data), names, on, runner.config)
        for number, volume in enumerate(volumes):
            for name, tensor in tap.tensors(_network_input(runner, volume)):
                add(number, name, tensor)
    except (ModelError, ProviderError) as error:
        if on == "cpu":
            raise
        return f"{several}, since {on} does not show them ({error})"
    return None


def _network_input(runner: Runner, volume: NDArray[np.float32]) -> NDArray[np.float32] | Mapping[str, Any]:
    if not runner.model.stored_voxels:
        return volume.reshape(1, *runner.contract.input_shape)
    voxels, slope, intercept = to_stored_voxels(volume, runner.contract, BLEND_STEPS)
    scaling = {SLOPE_INPUT: np.array(slope, np.float32), INTERCEPT_INPUT: np.array(intercept, np.float32)}
    return {runner.model.input_name: voxels, **scaling}


def sketch_tensors(runner: Runner) -> tuple[TensorSketch, ...]:
    """Sketches of tensors inside a file for each of its golden inputs, where it runs."""
    proto = onnx.ModelProto.FromString(runner.model.data)
    collected = {name: TensorCollector() for name in choose_sensitive_tensors(proto, runner.model.output_name)}
    if not collected:
        return ()
    tap = IntermediateOutputs(proto, tuple(collected), runner.run_report.actual, runner.config)
    for volume in runner.model.golden.volumes(runner.contract.shape):
        for name, tensor in tap.tensors(_network_input(runner, volume)):
            collected[name].add(tensor)
    made = [values.sketch(name) for name, values in collected.items()]
    return tuple(sketch for sketch in made if sketch is not None)


TENSOR_TOLERANCE = 1e-3
"""Of a tensor's spread: float32 in another order of additions stays within a hundredth of that."""

REDUCED_PRECISION_TENSOR_TOLERANCE = 2e-2
"""The same of a file in fewer bits than float32."""


def renew_golden_test(model: ModelFile) -> tuple[bytes, GoldenTest]:
    """The bytes of a model file with a new golden test, made by the file on the CPU, and that test.

    To be called where the old test holds: a new one takes the file as it is for right. Graph, weights, contract and
    provenance keep their bytes.
    """
    with Runner(model, SessionRequest("cpu")) as runner:

        def predict(volume: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(runner.infer(volume[None])[0])

        golden = make_golden_test(predict, model.contract.shape)
    single = model.arithmetic == "fp32" and "float16" not in model.weights
    if not single:
        golden = replace(golden, tolerance=max(golden.tolerance, model.golden.tolerance))
    with Runner(parse_model_file(model.path, _replace_golden_test(model, golden)), SessionRequest("cpu")) as runner:
        tensors = sketch_tensors(runner)
    within = TENSOR_TOLERANCE if single else REDUCED_PRECISION_TENSOR_TOLERANCE
    golden = replace(golden, tensors=tensors, tensor_tolerance=max(within, model.golden.tensor_tolerance))
    return _replace_golden_test(model, golden), golden


def _replace_golden_test(model: ModelFile, golden: GoldenTest) -> bytes:
    proto = onnx.ModelProto.FromString(model.data)
    for entry in proto.metadata_props:
        if entry.key == GOLDEN_KEY:
            entry.value = golden.to_json()
    return bytes(proto.SerializeToString(deterministic=True))
