"""MaxPool(x, ceil_mode=1)  ->  MaxPool(x, padding at the end)        AveragePool too, if padding is not counted

With ``ceil_mode`` a window that begins inside the volume and does not fit counts. Exact: voxels beyond the volume are
minus infinity for a maximum, and excluded from an average. ONNX's shape inference also counts windows that begin
beyond the volume, unlike its specification, ONNX Runtime and PyTorch; with explicit padding all of them agree.
"""

from dataclasses import replace

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter
from ct3d_edge.conversion.passes.rule import RewriteRefused, reinfer_shapes
from ct3d_edge.conversion.passes.window import POOLS, Window, WindowAxis, counts_padding


def write_explicit_windows(model: ir.Model) -> None:
    """Replace ``ceil_mode`` in the given graph, and infer the sizes that follow."""
    for node in [node for node in model.graph if node.op_type in POOLS and "ceil_mode" in node.attributes]:
        window = _explicit_window(node)
        if window is None:
            continue
        replaced = {"ceil_mode": None, "auto_pad": None, "pads": window.pads}
        site = GraphRewriter(node)
        site.replace_output(site.clone(node, *node.inputs, **replaced))
        reinfer_shapes(model)


def _explicit_window(node: ir.Node) -> Window | None:
    """None if there is no ``ceil_mode``, or the padding would change a value."""
    if counts_padding(node) or len(node.outputs) > 1 or not node.attributes["ceil_mode"].as_int():
        return None
    try:
        axes = [_explicit_axis(axis) for axis in Window.from_node(node).axes]
    except RewriteRefused:
        return None
    return Window(tuple(axes)) if all(axis.end < axis.kernel for axis in axes) else None


def _explicit_axis(axis: WindowAxis) -> WindowAxis:
    missing = (axis.out - 1) * axis.stride + axis.extent - axis.begin - axis.size
    return replace(axis, end=max(0, missing), ceil=False)
