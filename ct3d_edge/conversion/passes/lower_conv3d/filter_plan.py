"""Which convolutions may be filtered: where that pays in time, and as long as the weights do not outgrow the network.

Minimal filtering saves products for each voxel, and makes weights more, which have to be stored and read for each scan.
First layers have many voxels and few weights, last ones few voxels and most of the weights of a network. Layers are
taken in the order of what they save for each added byte, until the added bytes reach a limit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import constant_array, first_input, name_stem, sample_shape
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import is_volume
from ct3d_edge.conversion.passes.lower_conv3d.winograd_depth import (
    MIN_CHANNELS,
    TAPS,
    choose_tile_size,
    relative_cost,
)
from ct3d_edge.conversion.passes.lower_conv3d.winograd_tiles import WEIGHT_READ_COST, cheapest_tiling
from ct3d_edge.conversion.passes.rule import RewriteRefused
from ct3d_edge.conversion.passes.window import Window, group_count

MAX_GROWTH = 0.08
"""Bytes that filtering may add, as a part of the weights of the network: its memory stays within 1.1 with them. ..."""

FREE_BYTES = 20_000_000
"""... or so many without that part, where that is more: a small network gains more speed than it costs memory."""


LARGE_KERNEL_BYTES, FEW_VOXELS = 1_000_000, 512
"""A convolution of such a kernel and at most so many voxels of output stays 3D on a CPU. ONNX Runtime copies kernels of
2D convolutions into its blocked layout when a session opens; the time is that of reading the kernel in either form."""


COPIES_MORE = "as planes it would copy more than it saves"
MANY_WEIGHTS = "it has more weights than voxels; in 2D they would take up to three times the memory"

DEPTH_TRANSFORM_COST = 20
"""Multiplications that take as long as bringing one number through the small matrix of one axis. Chosen on a core with
AVX-512 and ONNX Runtime 1.31: convolutions of 8 channels take 0.65 of the time of 3D ones if they are filtered, and
1.12 as planes without filtering."""

BLOCK, FEW_PRODUCTS = 16, 256
"""Channels of a block of ONNX Runtime's layout of 2D convolutions with AVX-512, and products of an output. Without
whole blocks and with fewer products, kernels that are narrow within planes took up to 1.4 of the time as planes."""


@dataclass(frozen=True)
class FilterPlan:
    """Convolutions that are not to be filtered, by the name that the source gave them.

    Parameters
    ----------
    unfiltered
        In no way.
    depth_only
        Along depth, but not along all axes.
    kept_3d
        Not to be made 2D either, where the target may have 3D operators; each with the reason.
    """

    unfiltered: frozenset[str] = frozenset()
    depth_only: frozenset[str] = frozenset()
    kept_3d: Mapping[str, str] = field(default_factory=dict)

    def require_planes(self, node: ir.Node) -> None:
        """Refuse a convolution that is to stay 3D."""
        reason = self.kept_3d.get(name_stem(node))
        if reason:
            raise RewriteRefused(reason)

    def require_depth(self, node: ir.Node) -> None:
        """Refuse a convolution that is not to be filtered."""
        if name_stem(node) in self.unfiltered:
            raise RewriteRefused(
                "minimal filtering adds more weights than it saves products, or than the file may grow"
            )

    def require_all_axes(self, node: ir.Node) -> None:
        """Refuse a convolution that is not to be filtered along all axes."""
        self.require_depth(node)
        if name_stem(node) in self.depth_only:
            raise RewriteRefused("minimal filtering along all axes adds more weights than the file may grow")


@dataclass(frozen=True)
class _Filtering:
    """One way to filter a convolution: products that it saves, and bytes that it adds."""

    saved: float
    added: int


NOT_FILTERED = _Filtering(0, 0)


@dataclass(frozen=True, eq=False)
class _Layer:
    """The convolutions of one kernel, and the ways to filter them; None for a way that does not pay."""

    names: frozenset[str]
    depth: _Filtering | None
    all_axes: _Filtering | None

    def ways(self) -> Iterator[tuple[float, _Filtering]]:
        """Ways to filter it, with what each saves for each byte that it adds to the one before it."""
        depth, all_axes = self.depth, self.all_axes
        if depth:
            yield depth.saved / depth.added, depth
        if all_axes and depth and all_axes.saved > depth.saved and all_axes.added > depth.added:
            yield (all_axes.saved - depth.saved) / (all_axes.added - depth.added), all_axes
        elif all_axes and not depth:
            yield all_axes.saved / all_axes.added, all_axes


def plan_filtering(model: ir.Model) -> FilterPlan:
    """Choose the convolutions of a graph, as it comes from `validate_graph`, that may be filtered."""
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    left = max(int(MAX_GROWTH * weights), FREE_BYTES - int(MAX_GROWTH * weights))
    layers = list(_layers(model))
    chosen: dict[_Layer, _Filtering] = {}
    ways = [(ratio, layer, way) for layer in layers for ratio, way in layer.ways()]
    for _, layer, way in sorted(ways, key=lambda entry: -entry[0]):
        before = chosen.get(layer, NOT_FILTERED)
        if way.saved > before.saved and way.added - before.added <= left:
            left -= way.added - before.added
            chosen[layer] = way
    depth_only = [layer.names for layer, way in chosen.items() if way is layer.depth]
    unfiltered = [layer.names for layer in layers if layer not in chosen]
    filtered = frozenset[str]().union(*(layer.names for layer in chosen))
    return FilterPlan(frozenset().union(*unfiltered), frozenset().union(*depth_only), _kept_3d(model, filtered))


def _kept_3d(model: ir.Model, filtered: frozenset[str]) -> dict[str, str]:
    """Convolutions that are faster in 3D on a CPU, with the reasons."""
    kept = {}
    for node in model.graph:
        if node.op_type != "Conv" or not node.name or not is_volume(node.outputs[0]):
            continue
        if _is_dominated_by_weights(node):
            kept[name_stem(node)] = MANY_WEIGHTS
        elif _copies_more(node, filtered=name_stem(node) in filtered):
            kept[name_stem(node)] = COPIES_MORE
    return kept


def _copies_more(node: ir.Node, *, filtered: bool) -> bool:
    """Whether unfolding costs more than a 2D convolution saves: along depth alone, or of few products."""
    kernel = constant_array(node.inputs[1])
    if kernel is None or group_count(node) > 1:
        return False
    depth, *plane = kernel.shape[2:]
    if max(plane) == 1:
        return bool(depth > 1)
    few = len(kernel) % BLOCK > 0 and kernel[0].size < FEW_PRODUCTS
    return bool(few and min(plane) == 1 and not filtered)


def _is_dominated_by_weights(node: ir.Node) -> bool:
    kernel, form = constant_array(node.inputs[1]), sample_shape(node.outputs[0])
    return (
        kernel is not None and form is not None and kernel.nbytes >= LARGE_KERNEL_BYTES and prod(form[1:]) <= FEW_VOXELS
    )


def _layers(model: ir.Model) -> Iterator[_Layer]:
    """Convolutions with kernels of three planes, those that share a kernel together."""
    sharing: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type == "Conv" and len(node.inputs) > 1 and node.inputs[1] is not None and node.name:
            sharing.setdefault(node.inputs[1], []).append(node)
    for kernel, nodes in sharing.items():
        array = constant_array(kernel)
        if array is None or not is_volume(first_input(nodes[0])) or array.shape[2] != TAPS:
            continue
        try:
            windows = [Window.from_node(node) for node in nodes]
        except RewriteRefused:
            continue
        yield _make_layer(nodes, windows, array.size, *array.shape[:2])


def _make_layer(nodes: Iterable[ir.Node], windows: list[Window], weights: int, outputs: int, inputs: int) -> _Layer:
    names = frozenset(name_stem(node) for node in nodes)
    depth = _depth_filtering(windows, weights, inputs, outputs)
    if any(group_count(node) > 1 for node in nodes):
        return _Layer(names, depth, None)
    return _Layer(names, depth, _all_axes_filtering(windows, weights, inputs, outputs))


def _depth_filtering(windows: list[Window], weights: int, inputs: int, outputs: int) -> _Filtering | None:
    axis = windows[0].axes[0]
    tile = choose_tile_size(axis.out)
    share = relative_cost(axis, axis.out, inputs)
    if tile is None or share >= 1 or inputs < MIN_CHANNELS:
        return None
    more = weights * (tile + TAPS - 1) // TAPS - weights
    transforms = DEPTH_TRANSFORM_COST * (inputs + outputs) * (tile + TAPS - 1) / tile
    voxels = sum(prod(window.out) for window in windows)
    saved = ((1 - share) * weights - transforms) * voxels - WEIGHT_READ_COST * more
    return _Filtering(saved, 4 * more) if saved > 0 else None


def _all_axes_filtering(windows: list[Window], weights: int, inputs: int, outputs: int) -> _Filtering | None:
    if any((axis.kernel, axis.stride, axis.dilation) != (TAPS, 1, 1) for axis in windows[0].axes):
        return None
    tiling = cheapest_tiling(windows[0], (1, 1, 1), inputs, outputs)
    if tiling is None:
        return None
    more = int(weights * (tiling.weight_growth - 1))
    saved = float(len(windows) * (weights * prod(windows[0].out) - tiling.cost))
    return _Filtering(saved, 4 * more) if saved > 0 else None
