"""ConvTranspose3D(x, w)  ->  planes of ConvTranspose2D(planes of x, w plane by plane), added where they overlap

::

    planes of x   0       1       2         each plane makes one plane of output for every plane of the kernel:
    stride 2      a b c                     a b c of plane 0, d e f of plane 1, ...
    kernel 3          d e f
                          g h i
    output        a b c+d e f+g h i         what falls into the padding is left out

Exact: the same products are added. With a kernel as long as its stride nothing overlaps, and planes are only put in
order.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, first_input, require_sample_shape
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    conv_parameters,
    flatten_planes,
    is_volume,
    pad_depth,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import group_count


def check(node: ir.Node) -> RewriteFn | None:
    """Find a transposed 3D convolution whose padding is written down."""
    if not is_volume(first_input(node)):
        return None
    weights, bias = conv_parameters(node)
    auto_pad = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if "output_shape" in node.attributes or auto_pad not in ("NOTSET", "VALID"):
        raise RewriteRefused("it leaves its padding to the runtime (output_shape or auto_pad), and runtimes disagree")
    form = volume_shape(first_input(node))
    return partial(_rewrite, node, form, weights, bias)


def _rewrite(node: ir.Node, form: tuple[int, int, int, int], weights: Array, bias: Array | None) -> None:
    site = GraphRewriter(node)
    outputs = weights.shape[1] * group_count(node)
    _, depth, height, width = require_sample_shape(node.outputs[0])
    pictures = to_planes(site, first_input(node))
    taps = [_transpose_plane(site, node, pictures, weights[:, :, tap]) for tap in range(weights.shape[2])]
    joined = taps[0] if len(taps) == 1 else site.insert("Concat", *taps, axis=1)
    made = (outputs, form[1] * len(taps), height, width)  # planes in the order input plane, kernel plane
    rows = _add_overlaps(site, flatten_planes(site, joined, made), _plane_sources(node, form[1], len(taps), depth))
    done = site.insert("Reshape", rows, site.add_int64(-1, outputs, height, width))
    if bias is not None:
        done = site.insert("Add", done, site.add_constant(bias.reshape(1, -1, 1, 1), "bias"))
    site.replace_output(to_volume(site, done, (outputs, depth, height, width)))


def _transpose_plane(site: GraphRewriter, node: ir.Node, pictures: ir.Value, weights: Array) -> ir.Value:
    """The 2D transposed convolution of every plane with one plane of the kernel."""
    behind_depth = {
        name: node.attributes[name].as_ints()[1:]
        for name in ("strides", "dilations", "output_padding")
        if name in node.attributes
    }
    begin, end = _depth_pads(node)
    pads = [begin[1], begin[2], end[1], end[2]]
    return site.clone(
        node,
        pictures,
        site.add_constant(weights, "weights"),
        auto_pad=None,
        kernel_shape=list(weights.shape[2:]),
        pads=pads,
        **behind_depth,
    )


def _depth_pads(node: ir.Node) -> tuple[list[int], list[int]]:
    pads = list(node.attributes["pads"].as_ints()) if "pads" in node.attributes else [0] * 6
    return pads[:3], pads[3:]


def _plane_sources(node: ir.Node, planes: int, kernel: int, depth: int) -> list[list[int]]:
    """For each plane of output, the made planes that are added to it."""
    stride, dilation = (
        node.attributes[name].as_ints()[0] if name in node.attributes else 1 for name in ("strides", "dilations")
    )
    first = _depth_pads(node)[0][0]
    sources: list[list[int]] = [[] for _ in range(depth)]
    for plane in range(planes):
        for tap in range(kernel):
            place = plane * stride + tap * dilation - first
            if 0 <= place < depth:
                sources[place].append(plane * kernel + tap)
    return sources


def _add_overlaps(site: GraphRewriter, rows: ir.Value, sources: list[list[int]]) -> ir.Value:
    """Rows of ``(N, made planes, values)`` in the order of the output, as many sums as planes overlap."""
    most = max(1, *(len(source) for source in sources))
    made = 1 + max((place for source in sources for place in source), default=0)
    if any(len(source) < most for source in sources):
        rows = pad_depth(site, rows, 1, 0)  # a plane of zeros in front: where nothing is added
        sources = [[place + 1 for place in source] for source in sources]
    table = np.array([source + [0] * (most - len(source)) for source in sources], np.int64)
    if most == 1 and np.array_equal(table[:, 0], np.arange(made)):
        return rows
    parts = [site.insert("Gather", rows, site.add_constant(table[:, n], "planes"), axis=1) for n in range(most)]
    total = parts[0]
    for part in parts[1:]:
        total = site.insert("Add", total, part)
    return total


RULE = RewriteRule("transposed 3D convolution plane by plane", frozenset({"ConvTranspose"}), check)
