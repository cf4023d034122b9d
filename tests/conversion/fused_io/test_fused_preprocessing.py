"""The nodes in front of a network against NumPy's preprocessing."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from products import each_value

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.fused_io.preprocessing import NodeWriter, append_preprocessing
from ct3d_edge.modelfile.signature import INTERCEPT_INPUT, SLOPE_INPUT, VOXEL_AXES, VOXELS_INPUT
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume

SIZES = [(24, 20, 12), (16, 12, 8), (1, 1, 1), (2, 3, 40), (9, 50, 15), (9, 50, 16), (9, 50, 17), (9, 50, 33)]
"""Around twice as many slices as the network takes, where the way to choose them changes."""


def graph(contract: Contract) -> onnx.ModelProto:
    nodes = NodeWriter("p_")
    append_preprocessing(nodes, contract, "volume")
    made = helper.make_graph(
        nodes.nodes,
        "preparing",
        [
            helper.make_tensor_value_info(VOXELS_INPUT, TensorProto.INT16, VOXEL_AXES),
            helper.make_tensor_value_info(SLOPE_INPUT, TensorProto.FLOAT, []),
            helper.make_tensor_value_info(INTERCEPT_INPUT, TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, [1, *contract.input_shape])],
        nodes.constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def prepared(contract: Contract, voxels: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    session = ort.InferenceSession(graph(contract).SerializeToString(), providers=["CPUExecutionProvider"])
    scaling = {SLOPE_INPUT: np.array(slope, np.float32), INTERCEPT_INPUT: np.array(intercept, np.float32)}
    return np.asarray(session.run(None, {VOXELS_INPUT: voxels, **scaling})[0])


def noise(size: tuple[int, int, int], spread: int = 3000) -> NDArray[np.int16]:
    """``(D, H, W)`` for a scan of a size ``(W, H, D)``."""
    return np.random.default_rng(0).integers(-spread, spread, size[::-1]).astype(np.int16)


def numpy_path(contract: Contract, voxels: NDArray[np.int16], slope: float, intercept: float) -> NDArray[np.float32]:
    volume = Volume(voxels.T, slope=slope, intercept=intercept)
    return preprocess(volume, replace(contract, orientation="stored")).volume.reshape(1, *contract.input_shape)


@pytest.mark.parametrize(("quarter_turns", "size"), each_value([0, 1, 2, 3], SIZES))
def test_gives_the_network_input_that_numpy_gives(size: tuple[int, int, int], quarter_turns: int) -> None:
    contract, voxels = Contract(shape=(16, 12, 8), quarter_turns=quarter_turns), noise(size)
    assert prepared(contract, voxels, 0.7, -100.3) == pytest.approx(
        numpy_path(contract, voxels, 0.7, -100.3), abs=1e-6, rel=0
    )


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (-1, 24), (0.01, -300), (40, 5000)])
@pytest.mark.parametrize("window", [(-1000.0, 400.0), (-160.0, 240.0)])
def test_every_scaling_is_clipped_before_it_is_interpolated(
    window: tuple[float, float], slope: float, intercept: float
) -> None:
    contract, voxels = Contract(shape=(16, 12, 8), hu_window=window), noise((40, 31, 20), 32000)
    found, expected = prepared(contract, voxels, slope, intercept), numpy_path(contract, voxels, slope, intercept)
    assert found == pytest.approx(expected, abs=2e-6, rel=0)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_a_network_of_one_voxel_gets_the_one_that_numpy_takes(quarter_turns: int) -> None:
    contract, voxels = Contract(shape=(1, 1, 1), quarter_turns=quarter_turns), noise((9, 8, 7), 700)
    assert prepared(contract, voxels, 1, 0) == pytest.approx(numpy_path(contract, voxels, 1, 0), abs=1e-6)


@pytest.mark.parametrize("channels", ["last", "first", "none"])
def test_the_axis_of_length_one_stands_where_the_contract_says(channels: str) -> None:
    contract = Contract(shape=(16, 12, 8), channels=channels)  # type: ignore[arg-type]
    assert prepared(contract, noise((24, 20, 12)), 1, 0).shape == (1, *contract.input_shape)


def test_is_valid_onnx_without_loops_and_without_resize() -> None:
    proto = graph(Contract())
    onnx.checker.check_model(proto, full_check=True)
    assert not {node.op_type for node in proto.graph.node} & {"Loop", "If", "Scan", "Resize"}
