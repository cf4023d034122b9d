from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import GraphMaker
from networks import SHAPE, SaveNetwork, tiny_network
from numpy.typing import NDArray
from training_stats import statistics

from ct3d_edge.contract import Contract
from ct3d_edge.conversion import graph_variant, keras_to_onnx
from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.extra_outputs.pooled_output import add_pooled_output
from ct3d_edge.conversion.graph_variant import CompileOptions, rewrite_graph
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.optimize import load_for_compiling, optimize_model
from ct3d_edge.conversion.parity import accuracy_bisect
from ct3d_edge.conversion.parity.accuracy_bisect import CompileHistory, ParityFailure, bisect_failure
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.conversion.parity.parity_report import ParityReport, require_parity
from ct3d_edge.conversion.parity.tensor_parity import TensorDifference, TensorParity
from ct3d_edge.conversion.passes import pipeline
from ct3d_edge.conversion.passes.graph import GraphRewriter
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.errors import CheckFailedError
from ct3d_edge.providers.availability import find_provider_issue, get_provider
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.temperature_scaling import to_probabilities

Volumes = list[NDArray[np.float32]]
CONTRACT = Contract(shape=SHAPE)


def loud_file(path: Path, peak: float) -> Path:
    """A file in which one node reaches about ``peak``."""
    g = GraphMaker(*SHAPE, 1)
    x = g.op("Transpose", "x", perm=[0, 4, 1, 2, 3])
    x = g.op("Relu", g.conv(x, 4, 1, 3, 3, 3))
    x = g.op("ReduceMean", x, np.array([2, 3, 4]), keepdims=0)
    root = np.sqrt(peak, dtype=np.float32)
    x = g.op("Mul", g.op("Mul", x, np.array([root])), np.array([root]))
    x = g.op("Mul", g.op("Mul", x, np.array([1 / root])), np.array([1 / root]))
    x = g.op("Sigmoid", g.op("MatMul", x, g.normal(4, 1)))
    onnx.save(g.model(x), path)
    return path


def calibration() -> CalibrationData:
    rng = np.random.default_rng(99)
    return CalibrationData([rng.random(SHAPE, np.float32) for _ in range(6)], "six of noise")


def wrong() -> RewriteRule:
    """A rule that makes each mean half as large again."""

    def check(node: ir.Node) -> RewriteFn | None:
        if "wrong" in (node.name or ""):
            return None

        def rewrite() -> None:
            site = GraphRewriter(node)
            mean = site.insert("ReduceMean", *node.inputs, what="wrong", keepdims=0)
            site.replace_output(site.insert("Mul", mean, site.add_constant(np.array([1.5], np.float32), "wrong")))

        return rewrite

    return RewriteRule("a wrong rule", frozenset({"ReduceMean"}), check)


def break_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    passes = [replace(p, rules=(*p.rules, wrong())) if p.name == name else p for p in pipeline.EXACT_PASSES]
    monkeypatch.setattr(pipeline, "EXACT_PASSES", tuple(passes))


@pytest.mark.parametrize("name", ["transposes", "merge", "crop"])
def test_a_broken_pass_and_its_rewrite_are_named(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    break_pass(monkeypatch, name)
    model = load_for_compiling(loud_file(tmp_path / "in.onnx", 1.0), CONTRACT)
    with pytest.raises(CheckFailedError) as failed:
        optimize_model(model, tmp_path / "out.onnx", ParityDataset(volumes, "noise"))
    told = str(failed.value)
    assert f"It comes from the pass {name}, rewrite " in told
    assert "a wrong rule at node ReduceMean reducemean" in told
    assert "The smallest limit that would have passed is" in told
    assert not (tmp_path / "out.onnx").exists()


def test_a_search_that_takes_too_long_names_what_is_left(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_pass(monkeypatch, "fold forward")
    monkeypatch.setattr(accuracy_bisect, "MAX_SEARCH_SECONDS", 0)
    model = load_for_compiling(loud_file(tmp_path / "in.onnx", 1.0), CONTRACT)
    with pytest.raises(CheckFailedError, match=r"one of the rewrites 1 to \d+ of \d+ \(the search ended after 60 s\)"):
        optimize_model(model, tmp_path / "out.onnx", ParityDataset(volumes, "noise"))
    network = tiny_network()
    left = accuracy_bisect.find_faulty_layer(network, CONTRACT, volumes[0])
    assert left.startswith(f"one of the layers from {network.layers[1].name} to {network.layers[-1].name} (")


def test_it_is_named_in_a_file_with_pooled_features_too(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_pass(monkeypatch, "merge")
    taught = replace(CONTRACT, feature_statistics=statistics(4))
    g = GraphMaker(*SHAPE, 1)
    x = g.op("Relu", g.conv(g.op("Transpose", "x", perm=[0, 4, 1, 2, 3]), 4, 1, 3, 3, 3))
    x = g.op("ReduceMean", x, np.array([2, 3, 4]), keepdims=0)
    onnx.save(
        add_pooled_output(g.model(g.op("Sigmoid", g.op("MatMul", x, g.normal(4, 1)))), taught), tmp_path / "in.onnx"
    )
    model = load_for_compiling(tmp_path / "in.onnx", taught)
    assert model.pooled == 4
    with pytest.raises(CheckFailedError, match=r"The smallest limit that .* It comes from the pass merge, rewrite "):
        optimize_model(model, tmp_path / "out.onnx", ParityDataset(volumes, "noise"))


def test_a_node_that_float16_cannot_hold_stays_float32_and_the_proof_holds(tmp_path: Path, volumes: Volumes) -> None:
    model = load_for_compiling(loud_file(tmp_path / "in.onnx", 1e6), CONTRACT)
    plan = CompileOptions("none", precision="fp16")
    made = optimize_model(
        model, tmp_path / "out.onnx", ParityDataset(volumes, "noise", 0), options=plan, calibration=calibration()
    )
    assert "only phantoms were compared" in (made.parity.weakness or "")
    kept = made.model.provenance["precision"]["fp32_nodes"]
    assert "mul5" in kept
    assert [parity.simulated for parity in made.parity_reports] == [False, True]
    assert made.parity_reports[1].tensors is not None
    assert made.parity_reports[1].tensors.passed


def test_without_that_care_the_rehearsal_fails_and_the_node_is_named(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        graph_variant,
        "find_fp16_sensitive_nodes",
        lambda proto, _: {proto.graph.output[0].name: "it computes the prediction"},
    )
    model = load_for_compiling(loud_file(tmp_path / "in.onnx", 1e6), CONTRACT)
    with pytest.raises(CheckFailedError) as failed:
        optimize_model(
            model,
            tmp_path / "out.onnx",
            ParityDataset(volumes, "noise"),
            options=CompileOptions("none", precision="fp16"),
            calibration=calibration(),
        )
    assert "on cpu with rounding" in str(failed.value)
    assert "that of node Mul mul5, which differs by inf" in str(failed.value)
    assert not (tmp_path / "out.onnx").exists()


class Slanted:
    """Opens sessions as a provider would that computes some nodes half as large again: real ones, of such a graph."""

    def __init__(self, wrong: Callable[[onnx.NodeProto, onnx.ModelProto], bool]) -> None:
        self.wrong = wrong

    def __call__(self, proto: onnx.ModelProto, names: Sequence[str]) -> IntermediateOutputs:
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        graph = changed.graph
        del graph.node[:]
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.5, np.float32), "slant"))
        for node in proto.graph.node:
            graph.node.append(node)
            if self.wrong(node, proto):
                graph.node[-1].output[0] += "_right"
                made = [graph.node[-1].output[0], "slant"]
                graph.node.append(onnx.helper.make_node("Mul", made, [node.output[0]], name=f"{node.name}_slanted"))
        return IntermediateOutputs(changed, names)


def in_planes(node: onnx.NodeProto, proto: onnx.ModelProto) -> bool:
    """Whether a node is a two-dimensional convolution, which only the passes make."""
    sizes = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    return node.op_type == "Conv" and sizes.get(node.input[1]) == 4


def is_last_mean(node: onnx.NodeProto, proto: onnx.ModelProto) -> bool:
    """Whether a node is the last one that averages."""
    return bool(node == [each for each in proto.graph.node if each.op_type == "ReduceMean"][-1])


def history_of(path: Path, plan: CompileOptions) -> tuple[CompileHistory, NDArray[np.float64], Volumes]:
    """A faithful history, the right answer to a volume, and the volume."""
    original = onnx.load(loud_file(path, 1.0))
    made = graph_variant.make_variant(original, rewrite_graph(original, plan), plan, CONTRACT, None)
    volume = np.random.default_rng(5).random(SHAPE, np.float32)
    ((_, right),) = IntermediateOutputs(original, [original.graph.output[0].name]).tensors(
        volume.reshape(1, *CONTRACT.input_shape)
    )
    return CompileHistory(original, plan, made, CONTRACT), to_probabilities(right, CONTRACT)[0], [volume]


def test_a_provider_that_is_wrong_from_the_start_is_named_with_the_node(tmp_path: Path) -> None:
    history, right, (volume,) = history_of(tmp_path / "in.onnx", CompileOptions("fast"))
    slanted = Slanted(is_last_mean)  # the passes average in two steps
    told = bisect_failure(history, right, ParityFailure(volume, "openvino"), 1e-5, slanted)
    assert "before any pass, on openvino alone" in told
    assert "that of node ReduceMean reducemean" in told


def test_a_provider_that_is_wrong_behind_a_pass_gets_that_pass_named(tmp_path: Path) -> None:
    history, right, (volume,) = history_of(tmp_path / "in.onnx", CompileOptions("fast"))
    told = bisect_failure(history, right, ParityFailure(volume, "openvino"), 1e-5, Slanted(in_planes))
    assert "It comes from the pass " in told
    assert "at node Conv conv" in told


def test_where_the_provider_is_right_no_step_is_blamed(tmp_path: Path) -> None:
    history, right, (volume,) = history_of(tmp_path / "in.onnx", CompileOptions("fast"))
    told = bisect_failure(history, right, ParityFailure(volume, "openvino"), 1e-5, Slanted(lambda *_: False))
    assert told.startswith("No single step is beyond its limit")


def test_what_runs_on_another_provider_is_the_file_itself_and_not_its_rehearsal(tmp_path: Path) -> None:
    history, right, (volume,) = history_of(tmp_path / "in.onnx", CompileOptions("none"))
    opened: list[onnx.ModelProto] = []

    def tap(proto: onnx.ModelProto, names: Sequence[str]) -> IntermediateOutputs:
        opened.append(proto)
        return IntermediateOutputs(proto, names)

    fp16_simulated = onnx.ModelProto()
    fp16_simulated.CopyFrom(history.variant.proto)
    history = replace(history, variant=replace(history.variant, fp16_simulated=fp16_simulated))
    for simulated, first in ((False, history.variant.proto), (True, fp16_simulated)):
        opened.clear()
        bisect_failure(history, right, ParityFailure(volume, simulated=simulated), 1e-5, tap)
        assert opened[0] is first


FAILED = ParityReport(8, "noise", "nv-tensorrt-rtx", 0.1, 0.5, 0, 0, None, (0.2, 0.8), 1e-5)


@pytest.mark.skipif(find_provider_issue(get_provider("nv-tensorrt-rtx")) is None, reason="TensorRT for RTX works here")
def test_where_nobody_can_look_the_proof_has_failed_all_the_same(tmp_path: Path) -> None:
    history, right, (volume,) = history_of(tmp_path / "in.onnx", CompileOptions("none"))
    with pytest.raises(CheckFailedError, match=r"^The parity check failed") as failed:
        require_parity(FAILED, lambda: bisect_failure(history, right, ParityFailure(volume, "nv-tensorrt-rtx"), 1e-5))
    assert "The cause could not be found: " in str(failed.value)


def test_a_search_that_breaks_does_not_hide_which_tensors_differ() -> None:
    gap = TensorDifference("t", "Conv c", 0.5, 0.1)
    apart = replace(FAILED, probability_difference=0.0, tensors=TensorParity(1, 1, 2, gap, 0.1, gap, 1e-4))
    with pytest.raises(CheckFailedError, match=r"although the predictions agree.*could not be found: KeyError: 'lost'"):
        require_parity(apart, lambda: dict[str, str]()["lost"])


@pytest.mark.slow
def test_a_conversion_that_goes_wrong_names_the_layer(
    save_network: SaveNetwork, tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_to_onnx = keras_to_onnx.convert_to_onnx

    def changed(network: keras.Model, contract: Contract) -> onnx.ModelProto:
        """Every convolution is given another weight."""
        proto = convert_to_onnx(network, contract)
        kernels = {node.input[1] for node in proto.graph.node if node.op_type == "Conv"}
        for tensor in proto.graph.initializer:
            if tensor.name in kernels:
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 2, tensor.name))
        return proto

    monkeypatch.setattr(keras_to_onnx, "convert_to_onnx", changed)
    source = load_keras_source(save_network())
    with pytest.raises(CheckFailedError, match=r"comes from the conversion, at layer conv3d\w* \(Conv3D\)"):
        export_model(source, tmp_path / "x.onnx", ParityDataset(volumes, "noise"))
