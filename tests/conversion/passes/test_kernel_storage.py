from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import GraphMaker, difference, operators
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.graph_variant import CompileOptions, make_variant, rewrite_graph
from ct3d_edge.conversion.passes.lower_conv3d.kernel_storage import store_kernels_untransformed
from ct3d_edge.conversion.passes.pipeline import Target, WinogradAxes, optimize_graph

SHAPE = (32, 16, 24, 24)
CONTRACT = Contract(shape=SHAPE[1:])


def network() -> onnx.ModelProto:
    """A convolution that all axes are filtered for, one of depth alone, and a matrix as large as they are."""
    g = GraphMaker(*SHAPE)
    x = g.op("Relu", g.conv("x", 48, 32, 3, 3, 3, pads=[1] * 6))
    x = g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = g.conv(x, 64, 48, 3, 3, 3, pads=[1] * 6)
    x = g.op("Reshape", g.op("ReduceMean", x, np.array([2, 3, 4])), np.array([-1, 64]))
    return g.model(g.op("MatMul", x, g.normal(64, 4096)))


def weight_bytes(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(t).nbytes for t in proto.graph.initializer if t.data_type == t.FLOAT)


@pytest.mark.parametrize("axes", ["all", "depth"])
def test_a_filtered_file_is_about_as_small_as_before_and_gives_the_same(axes: WinogradAxes) -> None:
    filtered = optimize_graph(network(), "fast", winograd_axes=axes).proto
    made, count = store_kernels_untransformed(filtered)
    onnx.checker.check_model(made, full_check=True)
    assert count == 2
    assert weight_bytes(filtered) > 1.3 * weight_bytes(network())
    assert weight_bytes(made) < 1.15 * weight_bytes(network())
    assert difference(filtered, made, SHAPE) < 1e-5


def test_the_session_runs_the_graph_that_it_ran_before(tmp_path: Path) -> None:
    """ONNX Runtime has computed the kernels by the time a session is open."""
    filtered = optimize_graph(network(), "fast").proto
    made, _ = store_kernels_untransformed(filtered)
    run = []
    for number, proto in enumerate((filtered, made)):
        settings = ort.SessionOptions()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = f"{tmp_path}/{number}.onnx"
        ort.InferenceSession(proto.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        run.append(operators(onnx.load(settings.optimized_model_filepath)))
    assert run[0] == run[1]


def test_kernels_as_they_were_trained_and_other_weights_stay() -> None:
    proto = network()
    assert store_kernels_untransformed(proto) == (proto, 0)


def test_reducing_twice_is_reducing_once() -> None:
    once, _ = store_kernels_untransformed(optimize_graph(network(), "fast").proto)
    assert store_kernels_untransformed(once) == (once, 0)


@pytest.mark.parametrize(("target", "count"), [("cpu", 2), ("no-conv3d", 0)])
def test_only_files_for_cpus_compute_their_kernels(target: Target, count: int) -> None:
    options = CompileOptions("fast", target, strict=True)
    made = make_variant(network(), rewrite_graph(network(), options), options, CONTRACT, None)
    assert made.provenance.get("untransformed_kernels", 0) == count


def test_float16_weights_are_those_of_the_kernels() -> None:
    options = CompileOptions("fast", strict=True, weight_dtype="fp16")
    made = make_variant(network(), rewrite_graph(network(), options), options, CONTRACT, None)
    assert made.proto.ByteSize() < 0.6 * weight_bytes(network())
    assert difference(network(), made.proto, SHAPE) < 2e-3


def test_a_constant_whose_new_names_are_taken_or_that_is_an_input_stays() -> None:
    filtered = optimize_graph(network(), "fast").proto
    _, count = store_kernels_untransformed(filtered)
    kept = {tensor.name for tensor in store_kernels_untransformed(filtered)[0].graph.initializer}
    name = next(tensor.name for tensor in filtered.graph.initializer if tensor.name not in kept)
    clashing, open_ = onnx.ModelProto(), onnx.ModelProto()
    clashing.CopyFrom(filtered)
    clashing.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), f"{name}.kernels"))
    open_.CopyFrom(filtered)
    dims = next(tuple(tensor.dims) for tensor in filtered.graph.initializer if tensor.name == name)
    open_.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
    assert [store_kernels_untransformed(proto)[1] for proto in (clashing, open_)] == [count - 1] * 2


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan, 1.0])
def test_weights_that_are_all_alike_are_no_kernels(value: float) -> None:
    g = GraphMaker(216)
    proto = g.model(g.op("MatMul", "x", np.full((216, 512), value, np.float32)))
    assert store_kernels_untransformed(proto)[1] == 0
