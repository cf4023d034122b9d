"""Volumes ``(N, C, D, H, W)`` as planes ``(N * D, C, H, W)`` and back.

Every rule of this package takes planes and returns a volume. If the volume of one rule is the input of another, the
planes of the volume are used directly, and the conversions between them are removed as unused. The batch axis stays
open: Reshape infers it.
"""

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import (
    Array,
    GraphRewriter,
    constant_array,
    first_input,
    rank,
    require_sample_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteRefused

PLANES_FIRST = [0, 2, 1, 3, 4]
"""``(N, C, D, H, W)`` to ``(N, D, C, H, W)``, and its own inverse."""

VOLUME_AXES = 5


def is_volume(value: ir.Value) -> bool:
    """Whether a value is ``(N, C, D, H, W)``."""
    return rank(value) == VOLUME_AXES


def volume_shape(value: ir.Value) -> tuple[int, int, int, int]:
    """``(C, D, H, W)``, all known."""
    channels, depth, height, width = require_sample_shape(value)
    return channels, depth, height, width


def find_planes(value: ir.Value) -> ir.Value | None:
    """The planes of which a rule of this package made a volume; None if the value is no such volume."""
    transpose = value.producer()
    if transpose is None or transpose.op_type != "Transpose":
        return None
    reshape = first_input(transpose).producer()
    turned = list(transpose.attributes["perm"].as_ints()) == PLANES_FIRST if "perm" in transpose.attributes else False
    if not turned or reshape is None or reshape.op_type != "Reshape":
        return None
    form = constant_array(reshape.inputs[1])
    found = form is not None and form.size == VOLUME_AXES and form[0] == -1 and STACK in (reshape.name or "")
    return reshape.inputs[0] if found else None


STACK = "stack"
"""Part of the name of the Reshape that makes a volume of planes."""


def to_planes(site: GraphRewriter, value: ir.Value) -> ir.Value:
    """``(N, C, D, H, W)`` as ``(N * D, C, H, W)``."""
    already = find_planes(value)
    if already is not None:
        return already
    channels, depth, height, width = volume_shape(value)
    if channels > 1 and depth > 1:
        value = site.insert("Transpose", value, perm=PLANES_FIRST)
    return site.insert("Reshape", value, site.add_int64(-1, channels, height, width))


def to_volume(site: GraphRewriter, pictures: ir.Value, form: tuple[int, int, int, int]) -> ir.Value:
    """``(N * D, C, H, W)`` as ``(N, C, D, H, W)`` for ``form = (C, D, H, W)``."""
    channels, depth, height, width = form
    apart = site.insert("Reshape", pictures, site.add_int64(-1, depth, channels, height, width), what=STACK)
    return site.insert("Transpose", apart, perm=PLANES_FIRST)


def flatten_planes(site: GraphRewriter, pictures: ir.Value, form: tuple[int, int, int, int]) -> ir.Value:
    """``(N * D, C, H, W)`` as ``(N, D, C * H * W)``: one row per plane."""
    channels, depth, height, width = form
    return site.insert("Reshape", pictures, site.add_int64(-1, depth, channels * height * width))


def pad_depth(site: GraphRewriter, rows: ir.Value, begin: int, end: int) -> ir.Value:
    """Planes of zeros before and after ``(N, D, C * H * W)``."""
    if begin == end == 0:
        return rows
    return site.insert("Pad", rows, site.add_int64(0, begin, 0, 0, end, 0))


def conv_parameters(node: ir.Node) -> tuple[Array, Array | None]:
    """Weights and bias of a convolution.

    Raises
    ------
    RewriteRefused
        They are not constant.
    """
    weights = constant_array(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant_array(given)
    if weights is None or (given is not None and bias is None):
        raise RewriteRefused("its weights are no constants")
    return weights, bias
