"""How much memory a run of a network takes, estimated from its graph before anything is run."""

import math
from collections.abc import Mapping

import onnx
from onnx import shape_inference

from ct3d_edge.modelfile.model_file import ModelFile

WORKSPACE_FACTOR = 1.25
"""What a run takes as a multiple of what goes into and comes out of its busiest operator: ONNX Runtime's CPU provider
unfolds convolutions, and its arena rounds up. The shipped network's first run added 619 MB where 504 MB go in and out,
with 1 and 2 threads alike; each further run at the same time added 495 to 523 MB, a batch of 2 1,237 MB."""


def estimate_run_bytes(model: ModelFile, batch: int = 1) -> int:
    """Bytes that one run takes while it lasts, roughly: those of the operator whose input and output are largest.

    A tensor whose shape cannot be inferred counts as nothing, but no run counts less than its input.

    Parameters
    ----------
    batch
        Volumes run at once.
    """
    proto = onnx.ModelProto.FromString(model.data)
    sizes = _tensor_sizes(shape_inference.infer_shapes(proto).graph, batch)
    busiest = max(sum(sizes.get(name, 0) for name in {*node.input, *node.output}) for node in proto.graph.node)
    return max(int(WORKSPACE_FACTOR * busiest), count_input_bytes(model, batch))


def count_input_bytes(model: ModelFile, batch: int = 1) -> int:
    """Bytes of a batch of network inputs, float32."""
    return 4 * batch * math.prod(model.contract.shape)


def _tensor_sizes(graph: onnx.GraphProto, batch: int) -> Mapping[str, int]:
    """Tensor name to its bytes, as float32; the first axis is the batch where it has no fixed length."""
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if dims and all(dims[1:]):
            sizes[value.name] = 4 * (dims[0] or batch) * math.prod(dims[1:])
    return sizes
