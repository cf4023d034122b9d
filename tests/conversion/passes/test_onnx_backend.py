"""ONNX's own tests of operators: whatever the passes accept of them answers as it did before."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from ct3d_edge.conversion.passes.pipeline import Level, Target, optimize_graph
from ct3d_edge.conversion.passes.validate_graph import OPSETS
from ct3d_edge.errors import ModelError

FORMS: tuple[tuple[Level, Target, int | None], ...] = (
    ("exact", "cpu", None),
    ("exact", "no-conv3d", None),
    ("fast", "cpu", None),
    ("fast", "no-conv3d", None),
    ("fast", "tensorrt", None),
    ("small", "cpu", 100),
    ("small", "no-conv3d", 1000),
)

MIN_COMPARED = 700
"""Cases that are compared, of about 1800; the others are of other types, opsets or domains."""

MIN_WITH_CONSTANTS = 200

RANDOM = ("bernoulli", "random", "dropout", "multinomial")


def run(proto: onnx.ModelProto, inputs: list[np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {value.name: x for value, x in zip(session.get_inputs(), inputs, strict=True)}))


def answers(proto: onnx.ModelProto, inputs: list[np.ndarray]) -> list[np.ndarray] | None:
    """What ONNX Runtime answers; None where it has no such operator, or answers with other than numbers."""
    try:
        found = run(proto, inputs)
    except Exception:  # ONNX Runtime has an error of its own for each reason
        return None
    return found if all(isinstance(x, np.ndarray) and x.dtype.kind in "bfiu" for x in found) else None


def read_case(case: Any) -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """The graph of a case in the newest opset that the passes take, and its inputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    proto.ir_version = min(proto.ir_version, 10)
    for entry in proto.opset_import:
        entry.version = min(entry.version, OPSETS.stop - 1)
    return proto, list(case.data_sets[0][0])


def with_constants(proto: onnx.ModelProto, inputs: list[np.ndarray]) -> onnx.ModelProto:
    """The graph with all inputs but the first as constants, which is what most rules look for."""
    first, *others = proto.graph.input
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    changed.graph.initializer.extend(
        numpy_helper.from_array(x, value.name) for x, value in zip(inputs[1:], others, strict=True)
    )
    del changed.graph.input[:]
    changed.graph.input.append(first)
    return changed


def compared_forms(proto: onnx.ModelProto, inputs: list[np.ndarray], name: str) -> Iterator[tuple[Level, Target]]:
    """Forms of a graph that answer as the graph itself does."""
    expected = answers(proto, inputs)
    if expected is None:
        return
    for level, target, max_memory in FORMS:
        try:
            after = optimize_graph(proto, level, target, max_memory, strict=True).proto
        except ModelError:
            continue
        for right, found in zip(expected, run(after, inputs), strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5, err_msg=f"{name} {level} {target}")
        yield level, target


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_operators_of_onnx_answer_as_before() -> None:
    cases = [case for case in load_model_tests(kind="node") if not any(word in case.name for word in RANDOM)]
    compared = {case.name for case in cases if list(compared_forms(*read_case(case), case.name))}
    print(f"{len(compared)} cases compared, {len(cases) - len(compared)} skipped: they do not fit")
    assert len(compared) >= MIN_COMPARED
    assert {"test_basic_conv_with_padding", "test_averagepool_3d_default", "test_convtranspose_3d"} <= compared


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_operators_of_onnx_with_constants_answer_as_before() -> None:
    compared = set()
    for case in load_model_tests(kind="node"):
        proto, inputs = read_case(case)
        is_plain = all(isinstance(x, np.ndarray) and x.dtype.kind in "bfiu" for x in inputs)
        if len(inputs) < 2 or len(proto.graph.input) != len(inputs) or not is_plain:
            continue
        if list(compared_forms(with_constants(proto, inputs), inputs[:1], case.name)):
            compared.add(case.name)
    assert len(compared) >= MIN_WITH_CONSTANTS
