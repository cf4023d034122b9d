"""What a run takes, before it is run."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from builders import MakeModel
from graphs import GraphMaker

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.modelfile.tensor_memory import count_input_bytes, estimate_run_bytes, tensor_bytes


def test_the_largest_operator_decides(make_model: MakeModel, contract: Contract) -> None:
    """The tiny network's convolution: one channel in, two out, nothing padded."""
    file = load_model_file(make_model())
    x, y, z = contract.shape
    busiest = 4 * (x * y * z + 2 * (x - 2) * (y - 2) * (z - 2))
    assert estimate_run_bytes(file.data, file.contract.shape) == int(1.25 * busiest)
    assert count_input_bytes(file.contract.shape) == 4 * x * y * z


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_batch_takes_as_many_times_as_much(batch: int) -> None:
    file = load_model_file(Path(default_model_path()))
    assert estimate_run_bytes(file.data, file.contract.shape, batch) == pytest.approx(
        batch * estimate_run_bytes(file.data, file.contract.shape), rel=0.01
    )
    assert count_input_bytes(file.contract.shape, batch) == batch * count_input_bytes(file.contract.shape)


def test_what_is_computed_of_constants_takes_nothing_of_a_run() -> None:
    g = GraphMaker(4)
    kernel = g.op("MatMul", g.normal(300, 4), g.normal(4, 3))
    proto = g.model(g.op("MatMul", "x", g.op("Slice", kernel, np.array([0]), np.array([4]))))
    assert list(tensor_bytes(proto)) == [proto.graph.output[0].name]
    assert estimate_run_bytes(proto.SerializeToString(), (4,)) == int(1.25 * 4 * (4 + 3))


def test_a_loop_that_uses_a_tensor_of_the_graph_is_computed_in_a_run() -> None:
    """Its inputs are constants; what its body uses is not among them."""
    body = onnx.parser.parse_graph(
        "body (int64 i, bool go, float[1, 4] seen) => (bool more, float[1, 4] added)"
        " { more = Identity(go) added = Add(seen, x) }"
    )
    graph = onnx.parser.parse_graph("g (float[1, 4] x) => (float[1, 4] y) { }")
    constants = {"times": np.array(3), "go": np.array(True), "begin": np.zeros((1, 4), np.float32)}
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    graph.node.append(onnx.helper.make_node("Loop", list(constants), ["sum"], body=body))
    graph.node.append(onnx.helper.make_node("Relu", ["sum"], ["y"]))
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    assert list(tensor_bytes(proto)) == ["sum", "y"]
    assert estimate_run_bytes(proto.SerializeToString(), (4,)) > 0
