"""Volumes ``(N, C, D, H, W)`` as rows ``(N, D, H * W * C)`` with the channels of a voxel side by side, and back.

The runtime converts its blocked layout to channels last as fast as to planes if the Transpose follows directly. So if a
volume was concatenated from pieces of planes, each piece is transposed separately, and only the pieces that are needed
are concatenated.
"""

from dataclasses import dataclass
from itertools import accumulate

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter, first_input, sample_shape, transpose_permutation
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import find_planes, is_volume, volume_shape
from ct3d_edge.conversion.passes.window import Window

TO_LAST, FROM_LAST = [0, 2, 3, 4, 1], [0, 4, 1, 2, 3]
"""``(N, C, D, H, W)`` to ``(N, D, H, W, C)``, and back."""

PICTURE_TO_LAST = [0, 2, 3, 1]
DEPTH = 2


@dataclass(frozen=True, eq=False)
class ChannelsLastInput:
    """A volume in pieces along depth, channels last, each ``(N, planes, H * W * C)``.

    Parameters
    ----------
    pieces
        The pieces.
    plane_counts
        Planes of each.
    height, width
        Of a plane.
    """

    pieces: tuple[ir.Value, ...]
    plane_counts: tuple[int, ...]
    height: int
    width: int

    def planes(self, site: GraphRewriter, low: int, high: int) -> ir.Value:
        """The planes from ``low`` to ``high`` (exclusive), ``(N, high - low, H * W * C)``."""
        ends = list(accumulate(self.plane_counts))
        touched = [n for n, end in enumerate(ends) if end > low and end - self.plane_counts[n] < high]
        first = ends[touched[0]] - self.plane_counts[touched[0]]
        pieces = [self.pieces[n] for n in touched]
        joined = pieces[0] if len(pieces) == 1 else site.insert("Concat", *pieces, axis=1)
        if (first, ends[touched[-1]]) == (low, high):
            return joined
        return site.insert(
            "Slice", joined, site.add_int64(low - first), site.add_int64(high - first), site.add_int64(1)
        )


def to_channels_last(site: GraphRewriter, value: ir.Value, window: Window) -> ChannelsLastInput:
    """A volume with the zeros of a window's padding around its rows and columns."""
    channels, _, height, width = volume_shape(value)
    rows, columns = window.axes[1:]
    pieces = [_pad_in_plane(site, _channels_to_last(site, piece), window, channels) for piece in _pieces(value)]
    thick = [volume_shape(piece)[1] for piece in _pieces(value)]
    height, width = height + rows.begin + rows.end, width + columns.begin + columns.end
    flat = [
        site.insert("Reshape", piece, site.add_int64(-1, size, height * width * channels))
        for piece, size in zip(pieces, thick, strict=True)
    ]
    return ChannelsLastInput(tuple(flat), tuple(thick), height, width)


def _pieces(value: ir.Value) -> list[ir.Value]:
    """The pieces from which a volume was concatenated along depth, if all are volumes of planes; else the volume."""
    node = value.producer()
    if node is None or node.op_type != "Concat" or node.attributes["axis"].as_int() != DEPTH:
        return [value]
    parts = [part for part in node.inputs if part is not None and is_volume(part) and find_planes(part) is not None]
    return parts if len(parts) == len(node.inputs) else [value]


def _channels_to_last(site: GraphRewriter, value: ir.Value) -> ir.Value:
    """``(N, C, D, H, W)`` as ``(N, D, H, W, C)``; images ``(N * D, C, H, W)`` become ``(N * D, H, W, C)``."""
    node = value.producer()
    if node is not None and transpose_permutation(node) == tuple(FROM_LAST):
        return first_input(node)
    channels, _, height, width = volume_shape(value)
    pictures = find_planes(value)
    if pictures is not None:
        if sample_shape(pictures) != (channels, height, width):  # successive reshapes were merged
            pictures = site.insert("Reshape", pictures, site.add_int64(-1, channels, height, width))
        return site.insert("Transpose", pictures, perm=PICTURE_TO_LAST)
    return site.insert("Transpose", value, perm=TO_LAST)


def _pad_in_plane(site: GraphRewriter, x: ir.Value, window: Window, channels: int) -> ir.Value:
    """Zeros around the rows and columns of ``(..., H, W, C)``."""
    rows, columns = window.axes[1:]
    if not rows.padded and not columns.padded:
        return x
    wide = site.insert("Reshape", x, site.add_int64(-1, rows.size, columns.size * channels))
    begin, end = (rows.begin, columns.begin * channels), (rows.end, columns.end * channels)
    return site.insert("Pad", wide, site.add_int64(0, *begin, 0, *end))


def from_channels_last(site: GraphRewriter, x: ir.Value) -> ir.Value:
    """``(N, D, H, W, C)`` as ``(N, C, D, H, W)``."""
    return site.insert("Transpose", x, perm=FROM_LAST)
