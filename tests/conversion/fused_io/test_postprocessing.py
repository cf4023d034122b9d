"""The nodes behind a network against what `Runner` makes of its output."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.fused_io.fuse import append_postprocessing
from ct3d_edge.conversion.fused_io.preprocessing import NodeWriter
from ct3d_edge.modelfile.signature import PROBABILITIES_OUTPUT
from ct3d_edge.temperature_scaling import to_probabilities

THREE = ("a", "b", "c")


@pytest.mark.parametrize("temperature", [1.0, 0.3, 7.0])
@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({"outputs": 1}, [0.2]),
        ({"outputs": 1}, [0.9999999]),
        ({"outputs": 2}, [0.25, 0.75]),
        ({"outputs": 3, "labels": THREE}, [0.5, 0.5, -1e-9]),
        ({"outputs": 1, "activation": "sigmoid"}, [-1.5]),
        ({"outputs": 1, "activation": "sigmoid"}, [90.0]),
        ({"outputs": 3, "labels": THREE, "activation": "softmax"}, [100.0, -3.0, 99.0]),
    ],
)
def test_gives_the_probabilities_that_the_runner_gives(
    fields: dict[str, object], output: list[float], temperature: float
) -> None:
    contract = Contract(temperature=temperature, **fields)  # type: ignore[arg-type]
    nodes = NodeWriter("p_")
    append_postprocessing(nodes, contract, "output")
    graph = helper.make_graph(
        nodes.nodes,
        "concluding",
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, contract.outputs])],
        [helper.make_tensor_value_info(PROBABILITIES_OUTPUT, TensorProto.FLOAT, [len(contract.labels)])],
        nodes.constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    given = np.array([output], np.float32)
    (found,) = session.run(None, {"output": given})
    assert found == pytest.approx(to_probabilities(given, contract)[0], abs=1e-6)
