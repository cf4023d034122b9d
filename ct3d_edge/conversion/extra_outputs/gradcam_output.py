"""The graph output `ct3d.features`: what the global average pooling averages, from which Grad-CAM is computed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, shape_inference

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.extra_outputs.receptive_field import trace_receptive_field
from ct3d_edge.errors import CheckFailedError, ModelError
from ct3d_edge.gradcam.gradcam import apply_activation
from ct3d_edge.gradcam.graph_trace import GlobalPooling, find_global_pooling
from ct3d_edge.gradcam.resample_to_scan import FEATURE_GRID_KEY
from ct3d_edge.modelfile.signature import FEATURES_OUTPUT
from ct3d_edge.session.runner import Runner
from ct3d_edge.temperature_scaling import to_probabilities

HEAD_TOLERANCE = 1e-4
"""Largest difference of a probability, computed from the head as read from the graph, and by the graph."""


def trace_feature_grid(proto: onnx.ModelProto, contract: Contract) -> dict[str, Any]:
    """Provenance of the position of the feature cells in the input; empty if the graph does not show it."""
    try:
        bare = remove_features_output(proto)
        cells = trace_receptive_field(
            bare, _find_features(bare, find_global_pooling(bare, bare.graph.output[0].name))[0], contract.shape
        )
    except ModelError:
        return {}
    return {FEATURE_GRID_KEY: cells.to_dict()} if cells else {}


def remove_features_output(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph without the output that `add_features_output` adds."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    outputs = [value for value in proto.graph.output if value.name != FEATURES_OUTPUT]
    nodes = [node for node in proto.graph.node if FEATURES_OUTPUT not in node.output]
    del bare.graph.output[:], bare.graph.node[:]
    bare.graph.output.extend(outputs)
    bare.graph.node.extend(nodes)
    return bare


def add_features_output(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph with the output ``(batch, C, a, b, c)``: the tensor that its global average pooling averages.

    To be called before passes run: they preserve outputs. A graph that has the output already, and may have been
    rewritten since, keeps it.

    Raises
    ------
    ModelError
        The network has no global average pooling followed by a readable head.
    """
    explained = onnx.ModelProto()
    explained.CopyFrom(proto)
    if any(value.name == FEATURES_OUTPUT for value in proto.graph.output):
        return explained
    pooling = find_global_pooling(explained, explained.graph.output[0].name)
    source, order, shape = _find_features(explained, pooling)
    if order == [0, 1, 2, 3, 4]:
        node = helper.make_node("Identity", [source], [FEATURES_OUTPUT], name=FEATURES_OUTPUT)
    else:
        node = helper.make_node("Transpose", [source], [FEATURES_OUTPUT], name=FEATURES_OUTPUT, perm=order)
    explained.graph.node.append(node)
    explained.graph.output.append(
        helper.make_tensor_value_info(FEATURES_OUTPUT, onnx.TensorProto.FLOAT, ["batch", *shape])
    )
    return explained


def check_gradcam_output(runner: Runner, provenance: Mapping[str, Any]) -> None:
    """Check a file with the Grad-CAM output: the head as read gives its probabilities, its cells have positions.

    Raises
    ------
    ModelError
        The position of the feature cells is not known.
    CheckFailedError
        The probabilities differ.
    """
    model = runner.model
    if model.features is None:
        return
    if FEATURE_GRID_KEY not in provenance:
        raise ModelError(
            "This model cannot have a Grad-CAM output: its graph does not show where in a scan its features lie. "
            "An input of the smallest size leaves one cell without a position: train at a larger size, or leave "
            "`gradcam_output=True` out. A graph that was rewritten before does not show it either: export the Keras "
            "model, with ct3d-edge export --model MODEL.keras --out MODEL.onnx --with-gradcam-output"
        )
    pooling = find_global_pooling(onnx.ModelProto.FromString(model.data), model.output_name)
    volumes = np.stack(model.golden.volumes(model.contract.shape))
    given, features, _ = runner.outputs(volumes)
    assert features is not None  # noqa: S101  # the file has them
    pooled = features.reshape(*features.shape[:2], -1).mean(axis=2, dtype=np.float64)
    read = np.stack([apply_activation(pooling.head.logits(row), pooling.last) for row in pooled])
    difference = float(np.abs(to_probabilities(read.astype(np.float32), model.contract) - given).max())
    if not difference <= HEAD_TOLERANCE:
        raise CheckFailedError(
            f"The head read from the graph gives a probability that differs by {difference:.1e} from that of the file "
            f"(limit {HEAD_TOLERANCE:.0e}). No file was written."
        )


def _find_features(proto: onnx.ModelProto, pooling: GlobalPooling) -> tuple[str, list[int], list[int]]:
    """The tensor that is pooled: name, order of axes that makes it ``(batch, C, a, b, c)``, and the shape then."""
    source, order = pooling.features, [0, 1, 2, 3, 4]
    sizes = _tensor_shape(proto, source)
    if len(sizes) != len(order):
        raise ModelError(
            f"This model cannot have a Grad-CAM output: it pools a tensor of {len(sizes)} axes, not of five."
        )
    if pooling.axes is not None:
        pooled = sorted(axis % len(order) for axis in pooling.axes)
        channels = [axis for axis in order[1:] if axis not in pooled]
        if len(pooled) != 3 or 0 in pooled:
            raise ModelError(f"This model cannot have a Grad-CAM output: it averages the axes {pooled}.")
        order = [0, *channels, *pooled]
    source, order = _skip_transpose(proto, source, order)
    shape = [_tensor_shape(proto, source)[axis] for axis in order[1:]]
    return source, order, shape


def _skip_transpose(proto: onnx.ModelProto, source: str, order: list[int]) -> tuple[str, list[int]]:
    """The same before the Transpose that tf2onnx puts in front of a pooling, and that passes remove."""
    for node in proto.graph.node:
        if source in node.output and node.op_type == "Transpose":
            turned = next(list(attribute.ints) for attribute in node.attribute if attribute.name == "perm")
            return node.input[0], [turned[axis] for axis in order]
    return source, order


def _tensor_shape(proto: onnx.ModelProto, name: str) -> list[int]:
    graph = shape_inference.infer_shapes(proto).graph
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == name:
            return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return []
