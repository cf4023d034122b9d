"""Pool(Conv(x))  ->  Pool(Conv(x[:n]))        n: the range of the pooling windows

A pooling whose stride does not divide its input ignores the last row, column or plane; it need not be computed. The
range is traced back through convolutions, poolings and elementwise operators with no other use, and the tensor is cut
where it is small, if possible at the network's input. Exact: voxels that are cut off reach no output.
"""

from dataclasses import dataclass
from functools import partial
from math import prod

import onnx_ir as ir

from ct3d_edge.conversion.passes.cancel_transposes import ELEMENTWISE_UNARY
from ct3d_edge.conversion.passes.channel_affine import read_channel_affine
from ct3d_edge.conversion.passes.graph import (
    GraphRewriter,
    constant_array,
    first_input,
    only_consumer,
    require_sample_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import POOLS, Window

COPY_COST = 50
"""Multiplications that take as long as copying one voxel (two cores, AVX2; an upper estimate of the copy)."""


@dataclass(frozen=True, eq=False)
class CroppedNode:
    """A node on the way from the cut to the pooling, with its window after the cut if it has one."""

    node: ir.Node
    window: Window | None


def check(node: ir.Node) -> RewriteFn | None:
    """Find a pooling that drops voxels which a convolution computed."""
    window = Window.from_node(node)
    if len(node.outputs) > 1 or all(axis.input_length(axis.out) == axis.size for axis in window.axes):
        return None
    links, saved = [CroppedNode(node, _crop_window(window, window.out))], 0
    value, need = first_input(node), _required_shape(links[0])
    while (link := _previous_node(value, need)) is not None:
        links.append(link)
        saved += _saved_multiplications(link)
        value, need = first_input(link.node), _required_shape(link, need)
    if saved == 0:
        return None
    if saved < COPY_COST * prod(need) * require_sample_shape(value)[0]:
        raise RewriteRefused("cutting its input would cost more than the voxels that it drops")
    return partial(_rebuild, node, value, need, links[::-1])


def _crop_window(window: Window, out: tuple[int, ...]) -> Window:
    return Window(tuple(axis.crop(windows) for axis, windows in zip(window.axes, out, strict=True)))


def _required_shape(link: CroppedNode, out: tuple[int, ...] = ()) -> tuple[int, ...]:
    return out if link.window is None else tuple(axis.size for axis in link.window.axes)


def _previous_node(value: ir.Value, need: tuple[int, ...]) -> CroppedNode | None:
    """The producer of a value with no other use; None where the chain begins."""
    node = value.producer()
    if node is None or only_consumer(value) is None:
        return None
    if node.op_type in POOLS | {"Conv"} and len(node.outputs) == 1:
        window = _crop_window(Window.from_node(node), need)
        return CroppedNode(node, window) if window.out == need else None  # not where a window lies in the padding alone
    affine = read_channel_affine(node)
    first = affine is not None and affine.x is node.inputs[0]
    return CroppedNode(node, None) if first or node.op_type in ELEMENTWISE_UNARY else None


def _saved_multiplications(link: CroppedNode) -> int:
    """Multiplications that the cut saves."""
    if link.node.op_type != "Conv" or link.window is None:
        return 0
    weights = constant_array(link.node.inputs[1])
    if weights is None:
        return 0
    return (prod(Window.from_node(link.node).out) - prod(link.window.out)) * weights.size


def _rebuild(node: ir.Node, value: ir.Value, need: tuple[int, ...], links: list[CroppedNode]) -> None:
    site = GraphRewriter(node)
    x = _crop_value(site, value, need)
    for link in links:
        window = {} if link.window is None else {"auto_pad": None, "ceil_mode": None, "pads": link.window.pads}
        x = site.clone(link.node, x, *link.node.inputs[1:], **window)
    site.replace_output(x)


def _crop_value(site: GraphRewriter, value: ir.Value, need: tuple[int, ...]) -> ir.Value:
    if require_sample_shape(value)[1:] == need:
        return value
    axes = range(2, 2 + len(need))
    return site.insert("Slice", value, site.add_int64(*[0] * len(need)), site.add_int64(*need), site.add_int64(*axes))


RULE = RewriteRule("do not compute what a pooling drops", POOLS, check)
