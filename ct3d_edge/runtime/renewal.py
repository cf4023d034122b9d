"""A model file gets a golden test made anew, from the answers it gives itself; nothing else of it changes."""

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.runtime.golden import Golden
from ct3d_edge.runtime.golden_search import make_golden
from ct3d_edge.runtime.model_file import GOLDEN_KEY, ModelFile, parse_model_file
from ct3d_edge.runtime.runner import Runner
from ct3d_edge.runtime.verify import sketches_of

TENSOR_TOLERANCE = 1e-3
"""Of a tensor's spread: float32 in another order of additions stays within a hundredth of that."""

LOWER_TENSOR_TOLERANCE = 2e-2
"""The same of a file in fewer bits than float32."""


def renewed_file(model: ModelFile) -> tuple[bytes, Golden]:
    """The bytes of a model file with a new golden test, answered by the file on the CPU, and that test.

    To be called where the old test holds: a new one takes the file as it is for right. Graph, weights, contract and
    provenance keep their bytes.
    """
    with Runner(model, "cpu") as runner:

        def answer(volume: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(runner.infer(volume[None])[0])

        golden = make_golden(answer, model.contract.shape)
    single = model.arithmetic == "fp32" and "float16" not in model.weights
    if not single:
        golden = replace(golden, tolerance=max(golden.tolerance, model.golden.tolerance))
    with Runner(parse_model_file(model.path, _with(model, golden)), "cpu") as runner:
        tensors = sketches_of(runner)
    within = TENSOR_TOLERANCE if single else LOWER_TENSOR_TOLERANCE
    golden = replace(golden, tensors=tensors, tensor_tolerance=max(within, model.golden.tensor_tolerance))
    return _with(model, golden), golden


def _with(model: ModelFile, golden: Golden) -> bytes:
    proto = onnx.ModelProto.FromString(model.data)
    for entry in proto.metadata_props:
        if entry.key == GOLDEN_KEY:
            entry.value = golden.to_json()
    return bytes(proto.SerializeToString(deterministic=True))
