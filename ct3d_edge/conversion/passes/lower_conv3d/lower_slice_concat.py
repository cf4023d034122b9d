"""Slice(volume of planes, depth)  ->  volume of Slice(planes apart)        the same for Concat along depth or channels

Exact: no value changes.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter, constant_array, first_input
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    find_planes,
    flatten_planes,
    is_volume,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule

CHANNELS, DEPTH = 1, 2


def check(node: ir.Node) -> RewriteFn | None:
    """Find a Slice along depth, or a Concat along depth or channels, of volumes of planes."""
    values = [value for value in node.inputs if value is not None and constant_array(value) is None]
    if not values or not any(find_planes(value) is not None for value in values) or not all(map(is_volume, values)):
        return None
    if node.op_type == "Slice":
        return _slice(node)
    axis = node.attributes["axis"].as_int() % 5
    if axis not in (CHANNELS, DEPTH) or len(values) < len(node.inputs):
        return None
    return partial(_concat, node, axis, values)


def _slice(node: ir.Node) -> RewriteFn | None:
    numbers = [constant_array(value) for value in node.inputs[1:]]
    if len(numbers) != 3 or any(number is None or number.size != 1 for number in numbers):
        return None
    first, last, axis = (int(number.item()) for number in numbers if number is not None)
    return partial(_cut, node, first, last) if axis == DEPTH and 0 <= first < last else None


def _cut(node: ir.Node, first: int, last: int) -> None:
    site = GraphRewriter(node)
    form = volume_shape(first_input(node))
    rows = flatten_planes(site, to_planes(site, first_input(node)), form)
    cropped = site.insert("Slice", rows, site.add_int64(first), site.add_int64(last), site.add_int64(1))
    channels, _, height, width = form
    apart = site.insert("Reshape", cropped, site.add_int64(-1, channels, height, width))
    site.replace_output(to_volume(site, apart, (channels, min(last, form[1]) - first, height, width)))


def _concat(node: ir.Node, axis: int, values: list[ir.Value]) -> None:
    site = GraphRewriter(node)
    forms = [volume_shape(value) for value in values]
    channels, depth, height, width = forms[0]
    if axis == CHANNELS:
        channels = sum(form[0] for form in forms)
        joined = site.insert("Concat", *(to_planes(site, value) for value in values), axis=1)
    else:
        depth = sum(form[1] for form in forms)
        rows = [flatten_planes(site, to_planes(site, value), form) for value, form in zip(values, forms, strict=True)]
        joined = site.insert(
            "Reshape", site.insert("Concat", *rows, axis=1), site.add_int64(-1, channels, height, width)
        )
    site.replace_output(to_volume(site, joined, (channels, depth, height, width)))


RULE = RewriteRule("pieces of planes", frozenset({"Slice", "Concat"}), check)
