"""Pool(Conv(x))  ->  Concat(Pool(Conv(x[a:b])), Pool(Conv(x[b - halo:c])), ...)        a few planes at a time

::

    x        [. . . . . . . . . .]         each piece of the output is completed before the next one begins,
    Conv     [# # # #][# # # #][##]   ->   so the large tensors between input and output exist one piece at a time
    Pool     [+ +][+ +][+]

Exact: every output is computed from the same voxels. Over one convolution nothing is computed twice; over several,
planes that two pieces need are computed for both. Pieces are as thick as the memory budget allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import prod

import onnx_ir as ir

from ct3d_edge.conversion.passes.cancel_transposes import ELEMENTWISE_UNARY
from ct3d_edge.conversion.passes.channel_affine import read_channel_affine
from ct3d_edge.conversion.passes.graph import GraphRewriter, constant_array, first_input, only_consumer
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import is_volume, volume_shape
from ct3d_edge.conversion.passes.lower_conv3d.winograd_depth import relative_cost
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import POOLS, Window, WindowAxis

FLOAT32_BYTES = 4
"""Bytes of a float32 voxel."""

MIN_PEAK_RATIO = 2
"""Least ratio of the largest tensor within a chain to its input and output."""


@dataclass(frozen=True, eq=False)
class TiledNode:
    """A node of a chain that is computed piece by piece, with its window if it has one."""

    node: ir.Node
    window: Window | None


@dataclass(frozen=True)
class Span:
    """Planes ``first`` to ``last`` (exclusive), and planes of padding in front of and behind them."""

    first: int
    last: int
    begin: int = 0
    end: int = 0


def find_chain(pool: ir.Node, convolutions: int) -> tuple[TiledNode, ...]:
    """The chain of nodes with no other use before a pooling, over at most some convolutions; first node first."""
    links = [TiledNode(pool, Window.from_node(pool))]
    left = convolutions
    while (link := _previous_node(first_input(links[-1].node))) is not None:
        if link.node.op_type == "Conv":
            left -= 1
        if left < 0:
            break
        links.append(link)
    while links and links[-1].node.op_type != "Conv":
        links.pop()  # nodes before the first convolution are no larger than its input
    return tuple(reversed(links))


def _previous_node(value: ir.Value) -> TiledNode | None:
    node = value.producer()
    if node is None or only_consumer(value) is None or len(node.outputs) != 1:
        return None
    if node.op_type in POOLS | {"Conv"}:
        return TiledNode(node, Window.from_node(node))
    affine = read_channel_affine(node)
    first = affine is not None and affine.x is node.inputs[0]
    return TiledNode(node, None) if first or node.op_type in ELEMENTWISE_UNARY else None


def required_spans(links: Sequence[TiledNode], first: int, last: int) -> list[Span]:
    """Planes that each link reads for the planes ``first`` to ``last`` of the output, in the order of the links."""
    found = []
    for link in reversed(links):
        span = Span(first, last) if link.window is None else _input_span(link.window.axes[0], first, last)
        found.append(span)
        first, last = span.first, span.last
    return found[::-1]


def _input_span(axis: WindowAxis, first: int, last: int) -> Span:
    low = first * axis.stride - axis.begin
    high = (last - 1) * axis.stride + axis.extent - axis.begin
    return Span(max(0, low), min(axis.size, high), max(0, -low), max(0, high - axis.size))


def peak_bytes(links: Sequence[TiledNode], planes: int) -> int:
    """Bytes that the largest link of a chain reads and writes for a number of planes of the chain's output."""
    sizes = _sizes(links, planes)
    return max(a + b for a, b in pairwise(sizes))


def _sizes(links: Sequence[TiledNode], planes: int) -> list[int]:
    """Bytes of the chain's input and of each link's output."""
    reads = required_spans(links, 0, planes)
    written = [span.last - span.first for span in reads[1:]] + [planes]
    entry = (reads[0].last - reads[0].first) * plane_bytes(first_input(links[0].node))
    return [entry, *(plane_bytes(link.node.outputs[0]) * n for link, n in zip(links, written, strict=True))]


def plane_bytes(value: ir.Value) -> int:
    """Bytes of one plane of a volume."""
    channels, _, height, width = volume_shape(value)
    return FLOAT32_BYTES * channels * height * width


def count_multiplications(links: Sequence[TiledNode], pieces: Sequence[tuple[int, int]]) -> float:
    """Multiplications of a chain in pieces: planes that two pieces need count twice, and incomplete tiles in full."""
    total = 0.0
    for first, last in pieces:
        reads = required_spans(links, first, last)
        written = [(span.first, span.last) for span in reads[1:]] + [(first, last)]
        for link, (begin, end) in zip(links, written, strict=True):
            if link.node.op_type == "Conv" and link.window:
                total += _multiplications(link, link.window, end - begin)
    return total


def _multiplications(link: TiledNode, window: Window, planes: int) -> float:
    weights = constant_array(link.node.inputs[1])
    if weights is None:
        raise RewriteRefused(f"the weights of {link.node.name} are no constants")
    volume = planes * prod(window.out[1:]) * weights.size
    return volume * relative_cost(window.axes[0], planes, weights.shape[1])


def choose_tiles(links: Sequence[TiledNode], planes: int, thickest: int) -> list[tuple[int, int]]:
    """The pieces with the least work, of at most a number of planes and at least half of it."""
    candidates = [_split_depth(planes, thickness) for thickness in range(max(1, thickest // 2), thickest + 1)]
    return min(reversed(candidates), key=lambda pieces: count_multiplications(links, pieces))


def _split_depth(planes: int, thickness: int) -> list[tuple[int, int]]:
    return [(first, min(first + thickness, planes)) for first in range(0, planes, thickness)]


def make_depth_tiling_rule(budget: int, convolutions: int) -> RewriteRule:
    """The rule for chains of a number of convolutions, and the bytes that their tensors may take.

    Over several convolutions, the first one is not counted: it is tiled separately within each piece.
    """

    def check(node: ir.Node) -> RewriteFn | None:
        if not is_volume(first_input(node)) or len(node.outputs) > 1:
            return None
        links = find_chain(node, convolutions)
        if sum(link.node.op_type == "Conv" for link in links) < convolutions:
            return None
        planes = volume_shape(node.outputs[0])[1]
        counted = links if convolutions == 1 else links[_after_first_pool(links) :]
        if not counted or peak_bytes(counted, planes) <= budget or planes == 1:
            return None
        _require_gain(links, planes)
        thickest = max((n for n in range(1, planes) if peak_bytes(counted, n) <= budget), default=1)
        return partial(_rewrite, node, links, choose_tiles(links, planes, thickest))

    return RewriteRule("depth streaming", POOLS, check)


def _after_first_pool(links: Sequence[TiledNode]) -> int:
    return next(place for place, link in enumerate(links) if link.node.op_type in POOLS) + 1


def _require_gain(links: Sequence[TiledNode], planes: int) -> None:
    if any(axis.ceil for link in links if link.window for axis in link.window.axes):
        raise RewriteRefused("windows that do not fit count too (ceil_mode)")
    if any(link.window.axes[0].reads_padding_alone for link in links if link.window):
        raise RewriteRefused("a window along depth lies in the padding alone: no planes to read")
    sizes = _sizes(links, planes)
    if max(sizes) < MIN_PEAK_RATIO * (sizes[0] + sizes[-1]):
        raise RewriteRefused("what goes in and comes out is about as large as what lies between")


def _rewrite(node: ir.Node, links: tuple[TiledNode, ...], pieces: list[tuple[int, int]]) -> None:
    site = GraphRewriter(node)
    x = first_input(links[0].node)
    made = [_build_tile(site, x, links, first, last) for first, last in pieces]
    site.replace_output(site.insert("Concat", *made, axis=2))


def _build_tile(site: GraphRewriter, x: ir.Value, links: tuple[TiledNode, ...], first: int, last: int) -> ir.Value:
    reads = required_spans(links, first, last)
    x = _slice_depth(site, x, reads[0])
    for link, span in zip(links, reads, strict=True):
        changes = {} if link.window is None else {"auto_pad": None, "pads": _pad_window(link.window, span).pads}
        x = site.clone(link.node, x, *link.node.inputs[1:], **changes)
    return x


def _pad_window(window: Window, span: Span) -> Window:
    depth = replace(window.axes[0], size=span.last - span.first, begin=span.begin, end=span.end)
    return Window((depth, *window.axes[1:]))


def _slice_depth(site: GraphRewriter, x: ir.Value, span: Span) -> ir.Value:
    if (span.first, span.last) == (0, volume_shape(x)[1]):
        return x
    return site.insert("Slice", x, site.add_int64(span.first), site.add_int64(span.last), site.add_int64(2))
