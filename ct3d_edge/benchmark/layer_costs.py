"""Which layer of the network a node of the running graph belongs to, and what the node has to do at least.

ONNX Runtime fuses nodes and adds its own; passes split layers into many. What stays is the name: tf2onnx names a
convolution ``Conv__45`` and everything else after its Keras layer (``3dcnn_1/conv3d_17_1/Relu``); a pass puts
``/ct3d.`` behind the name of the node that it rewrites.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ct3d_edge.session.node_profile import NodeTimes

VIEW_OPERATORS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
"""Operators that give the same bytes another shape."""

SLICE_OPERATORS = ("Slice", "Gather")
"""Operators that read no more than they write."""

MATMUL_OPERATORS = ("MatMul", "Gemm", "FusedGemm", "FusedMatMul")
MEAN_OPERATORS = ("ReduceMean", "GlobalAveragePool")
HEAD_LAYER = "head"
WHOLE_NETWORK = "network"
PASS_SUFFIX = re.compile(r"/ct3d[./].*$|:\d+(_nchwc)?$|_nchwc$")
TF2ONNX_CONV_NAME = re.compile(r"^Conv__\d+$")


@dataclass(frozen=True)
class LayerNodes:
    """A convolution with all that belongs to it, or the layers behind the last one.

    Parameters
    ----------
    name
        After the Keras layer, where its name is still there.
    nodes
        In the order in which they ran.
    """

    name: str
    nodes: tuple[NodeTimes, ...]


def read_layers(nodes: Sequence[NodeTimes]) -> tuple[LayerNodes, ...]:
    """Group nodes by convolution: pooling, activation, normalisation and transforms go with theirs.

    A node belongs to the convolution whose name it carries; otherwise to where the node before it belongs.
    """
    if not any(map(is_convolution, nodes)):
        return (LayerNodes(WHOLE_NETWORK, tuple(nodes)),)
    groups: dict[str, list[NodeTimes]] = {}
    for node, key in zip(nodes, _layer_keys(nodes), strict=True):
        groups.setdefault(key, []).append(node)
    return tuple(LayerNodes(_layer_title(key, members), tuple(members)) for key, members in groups.items())


def _layer_keys(nodes: Sequence[NodeTimes]) -> Iterator[str]:
    convolutions = [place for place, node in enumerate(nodes) if is_convolution(node)]
    known = {layer_name(nodes[place].name) for place in convolutions}
    upcoming = [layer_name(nodes[place].name) for place in convolutions]
    current, last = upcoming[0], convolutions[-1]
    for place, node in enumerate(nodes):
        if is_convolution(node):
            upcoming.pop(0)
        name = layer_name(node.name)
        if name in known:
            current = name
        elif TF2ONNX_CONV_NAME.match(name) and upcoming:
            current = upcoming[0]  # its convolution was fused and took its activation's name
        elif place > last and (node.operator in MEAN_OPERATORS or node.operator in MATMUL_OPERATORS):
            current = HEAD_LAYER
        yield current


def layer_name(name: str) -> str:
    """``conv3d_17`` of ``3dcnn_1/conv3d_17_1/Relu/ct3d.146:0_nchwc``, ``Conv__45`` of ``Conv__45/ct3d.76``."""
    parts = PASS_SUFFIX.sub("", name.removeprefix("fused ")).split("/")
    return re.sub(r"_\d+$", "", parts[1]) if len(parts) > 2 else parts[0]


def _layer_title(key: str, members: Sequence[NodeTimes]) -> str:
    """The Keras name of a convolution known by tf2onnx's, if one of its nodes has kept it."""
    names = [layer_name(node.name) for node in members] if TF2ONNX_CONV_NAME.match(key) else []
    return next((name for name in names if name.startswith("conv")), key)


def is_convolution(node: NodeTimes) -> bool:
    """Whether it is one, fused or not, or the products that minimal filtering along all axes leaves of one."""
    return ("Conv" in node.operator and len(node.inputs) > 1) or _is_winograd_matmul(node)


def _is_winograd_matmul(node: NodeTimes) -> bool:
    """``(N, points, tiles, inputs) @ (points, inputs, outputs)``."""
    ranks = [len(shape) for shape in node.inputs]
    return node.operator == "MatMul" and ranks == [4, 3] and node.inputs[0][1] == node.inputs[1][0] > 1


def count_flops(node: NodeTimes) -> float:
    """Operations that a node carries out: two for each multiplication with addition; 0 for all but products."""
    if is_convolution(node) and not _is_winograd_matmul(node):
        return 2.0 * math.prod(node.outputs[0]) * math.prod(node.inputs[1][1:])
    if node.operator in MATMUL_OPERATORS:
        return 2.0 * math.prod(node.outputs[0]) * _reduction_length(node)
    return 0.0


def _reduction_length(node: NodeTimes) -> int:
    """Length of the axis that a product sums over: the last one of its first factor."""
    return node.inputs[0][-1] if node.inputs and node.inputs[0] else 1


def count_bytes(node: NodeTimes) -> int:
    """Bytes that a node cannot avoid to move: each input and weight read once, each output written once."""
    if node.operator in VIEW_OPERATORS:
        return 0
    if node.operator in SLICE_OPERATORS:
        return 2 * node.output_bytes
    return node.input_bytes + node.output_bytes


def count_direct_flops(layer: LayerNodes) -> float:
    """Operations of the 3D convolutions that a layer stands for.

    Minimal filtering does m * r / (m + r - 1) times less than the convolution it replaces, along each axis that it
    works on; the last step of each is a product with a constant matrix ``(m, m + r - 1)``. Everything else does as much
    as a 3D convolution, planes that are cut off afterwards included.
    """
    saved = 1.0
    total = 0.0
    for node in reversed(layer.nodes):
        if (
            node.operator in MATMUL_OPERATORS
            and len(node.inputs[0]) == 2
            and len(node.inputs[1:2])
            and _is_output_transform(node)
        ):
            points, transformed = node.inputs[0]
            saved *= points * (transformed - points + 1) / transformed
        elif is_convolution(node):
            total += saved * count_flops(node)
            saved = 1.0
    return total


def _is_output_transform(node: NodeTimes) -> bool:
    """Fewer planes come out than go in; of the first step no fewer do."""
    rows, columns = node.inputs[0]
    return len(node.inputs[1]) == 3 and rows < columns and node.inputs[1][-2] == columns
