"""MaxPool(x, ceil_mode=1)  ->  MaxPool(x, padding at the end)        AveragePool alike, where padding is not counted

A window that begins inside and does not fit counts with ``ceil_mode``. Exact: what lies beyond the volume is minus
infinity to a maximum, and left out of an average. ONNX's shape inference also counts windows that begin beyond the
volume, which neither its specification nor ONNX Runtime nor PyTorch does; with the padding written down all agree.
"""

from dataclasses import replace

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter
from ct3d_edge.conversion.passes.rule import RewriteRefused, reinfer_shapes
from ct3d_edge.conversion.passes.window import POOLS, Window, WindowAxis, counts_padding


def write_explicit_windows(model: ir.Model) -> None:
    """Replace ``ceil_mode`` in a graph, in place, and infer the sizes that follow."""
    for node in [node for node in model.graph if node.op_type in POOLS and "ceil_mode" in node.attributes]:
        window = _explicit_window(node)
        if window is None:
            continue
        replaced = {"ceil_mode": None, "auto_pad": None, "pads": window.pads}
        site = GraphRewriter(node)
        site.replace_output(site.clone(node, *node.inputs, **replaced))
        reinfer_shapes(model)


def _explicit_window(node: ir.Node) -> Window | None:
    """None where there is nothing to do, or it would change a value."""
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
