"""Pool(Conv(x))  ->  Pool(Conv(x[:n]))        n: what the pooling's windows look at

A pooling that does not divide its input leaves out the last row, column or plane; it need not be computed. The demand
is followed back through convolutions, poolings and elementwise operators that serve nothing else, and the cut is made
where the tensor is small, at the network's input if all goes well. Exact: what is cut off reaches no output.
"""

from dataclasses import dataclass
from functools import partial
from math import prod

import onnx_ir as ir

from ct3d_edge.conversion.passes.cancel_transposes import UNARY
from ct3d_edge.conversion.passes.channel_affine import read_channel_affine
from ct3d_edge.conversion.passes.graph import GraphRewriter, constant, data, only_consumer, shape
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import POOLS, Window

COPY_COST = 50
"""Multiplications that take as long as copying one voxel (two cores, AVX2; generous to the copy)."""


@dataclass(frozen=True, eq=False)
class PoolChain:
    """A node on the way from the cut to the pooling, with its window after the cut if it has one."""

    node: ir.Node
    window: Window | None


def check(node: ir.Node) -> RewriteFn | None:
    """Find a pooling that drops voxels which a convolution computed."""
    window = Window.of(node)
    if len(node.outputs) > 1 or all(axis.needed(axis.out) == axis.size for axis in window.axes):
        return None
    links, saved = [PoolChain(node, _cropped(window, window.out))], 0
    value, need = data(node), _need(links[0])
    while (link := _link_before(value, need)) is not None:
        links.append(link)
        saved += _saved(link)
        value, need = data(link.node), _need(link, need)
    if saved == 0:
        return None
    if saved < COPY_COST * prod(need) * shape(value)[0]:
        raise RewriteRefused("cutting its input would cost more than the voxels that it drops")
    return partial(_rebuild, node, value, need, links[::-1])


def _cropped(window: Window, out: tuple[int, ...]) -> Window:
    return Window(tuple(axis.cropped(windows) for axis, windows in zip(window.axes, out, strict=True)))


def _need(link: PoolChain, out: tuple[int, ...] = ()) -> tuple[int, ...]:
    return out if link.window is None else tuple(axis.size for axis in link.window.axes)


def _link_before(value: ir.Value, need: tuple[int, ...]) -> PoolChain | None:
    """What makes a value that only the chain uses; None where the chain begins."""
    node = value.producer()
    if node is None or only_consumer(value) is None:
        return None
    if node.op_type in POOLS | {"Conv"} and len(node.outputs) == 1:
        window = _cropped(Window.of(node), need)
        return PoolChain(node, window) if window.out == need else None  # not where a window lies in the padding alone
    affine = read_channel_affine(node)
    first = affine is not None and affine.x is node.inputs[0]
    return PoolChain(node, None) if first or node.op_type in UNARY else None


def _saved(link: PoolChain) -> int:
    """Multiplications that the cut saves."""
    if link.node.op_type != "Conv" or link.window is None:
        return 0
    weights = constant(link.node.inputs[1])
    if weights is None:
        return 0
    return (prod(Window.of(link.node).out) - prod(link.window.out)) * weights.size


def _rebuild(node: ir.Node, value: ir.Value, need: tuple[int, ...], links: list[PoolChain]) -> None:
    site = GraphRewriter(node)
    x = _cut(site, value, need)
    for link in links:
        window = {} if link.window is None else {"auto_pad": None, "ceil_mode": None, "pads": link.window.pads}
        x = site.like(link.node, x, *link.node.inputs[1:], **window)
    site.finish(x)


def _cut(site: GraphRewriter, value: ir.Value, need: tuple[int, ...]) -> ir.Value:
    if shape(value)[1:] == need:
        return value
    axes = range(2, 2 + len(need))
    return site.op("Slice", value, site.integers(*[0] * len(need)), site.integers(*need), site.integers(*axes))


RULE = RewriteRule("do not compute what a pooling drops", POOLS, check)
