"""The geometry of a convolution or pooling: kernel, strides, padding and dilations along each spatial axis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import constant_array, first_input, require_sample_shape
from ct3d_edge.conversion.passes.rule import RewriteRefused

POOLS = frozenset({"MaxPool", "AveragePool"})


@dataclass(frozen=True)
class WindowAxis:
    """One spatial axis of a sliding window, in voxels.

    Parameters
    ----------
    size
        Of the input.
    kernel, stride, begin, end, dilation
        As in ONNX; ``begin`` and ``end`` are the padding.
    ceil
        Whether a window that begins inside and does not fit counts too.
    """

    size: int
    kernel: int
    stride: int = 1
    begin: int = 0
    end: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def extent(self) -> int:
        """Voxels from the first to the last one under the kernel."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def out(self) -> int:
        """Windows along the axis (formula of the ONNX operator specification)."""
        length = self.size + self.begin + self.end - self.extent
        if not self.ceil:
            return length // self.stride + 1
        windows = -(-length // self.stride) + 1
        return windows - ((windows - 1) * self.stride >= self.size + self.begin)

    @property
    def padded(self) -> bool:
        """Whether any window reaches beyond the volume."""
        return self.begin > 0 or self.end > 0

    @property
    def reads_padding_alone(self) -> bool:
        """Whether a window is entirely in the padding."""
        return self.begin >= self.extent or (self.out - 1) * self.stride - self.begin >= self.size

    @property
    def is_tiling(self) -> bool:
        """Whether windows touch without overlap, padding or gaps."""
        return self.kernel == self.stride and not self.padded and self.dilation == 1 and not self.ceil

    @property
    def is_pointwise(self) -> bool:
        """Whether every window is one voxel and all voxels have one."""
        return self.kernel == 1 and self.stride == 1 and not self.padded

    def input_length(self, windows: int) -> int:
        """Number of input voxels that the first ``windows`` windows cover."""
        return min(self.size, max(1, (windows - 1) * self.stride + self.extent - self.begin))

    def crop(self, windows: int) -> Self:
        """The same axis over the voxels that ``windows`` windows need."""
        size = self.input_length(windows)
        end = max(0, (windows - 1) * self.stride + self.extent - self.begin - size)
        return replace(self, size=size, end=end, ceil=False)


@dataclass(frozen=True)
class Window:
    """All spatial axes of a convolution or pooling."""

    axes: tuple[WindowAxis, ...]

    @classmethod
    def from_node(cls, node: ir.Node) -> Self:
        """Read a Conv, MaxPool or AveragePool node.

        Raises
        ------
        RewriteRefused
            If the size of the input or the kernel is not known.
        """
        spatial = require_sample_shape(first_input(node))[1:]
        kernel = _kernel(node)
        ones = [1] * len(spatial)
        strides, dilations = _numbers(node, "strides", ones), _numbers(node, "dilations", ones)
        ceil = bool(_number(node, "ceil_mode", 0))
        pads = _pads(node, spatial, kernel, strides, dilations)
        return cls(
            tuple(
                WindowAxis(spatial[n], kernel[n], strides[n], pads[n], pads[n + len(spatial)], dilations[n], ceil)
                for n in range(len(spatial))
            )
        )

    @property
    def padded(self) -> bool:
        """Whether any window reaches beyond the volume."""
        return any(axis.padded for axis in self.axes)

    @property
    def out(self) -> tuple[int, ...]:
        """Windows along each axis."""
        return tuple(axis.out for axis in self.axes)

    @property
    def kernel(self) -> list[int]:
        """Kernel along each axis."""
        return [axis.kernel for axis in self.axes]

    @property
    def strides(self) -> list[int]:
        """Stride along each axis."""
        return [axis.stride for axis in self.axes]

    @property
    def pads(self) -> list[int]:
        """Padding as ONNX writes it: all beginnings, then all ends."""
        return [axis.begin for axis in self.axes] + [axis.end for axis in self.axes]

    @property
    def dilations(self) -> list[int]:
        """Dilation along each axis."""
        return [axis.dilation for axis in self.axes]


def _kernel(node: ir.Node) -> list[int]:
    if "kernel_shape" in node.attributes:
        return list(node.attributes["kernel_shape"].as_ints())
    weights = constant_array(node.inputs[1]) if node.op_type == "Conv" else None
    if weights is None:
        raise RewriteRefused("its kernel is not a constant")
    return list(weights.shape[2:])


def _pads(
    node: ir.Node, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    mode = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if mode == "NOTSET":
        return _numbers(node, "pads", [0] * (2 * len(spatial)))
    if mode == "VALID":
        return [0] * (2 * len(spatial))
    totals = [
        max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        for n, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
    ]
    smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return smaller + larger if mode == "SAME_UPPER" else larger + smaller


def _numbers(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def _number(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def group_count(node: ir.Node) -> int:
    """Groups of a convolution."""
    return _number(node, "group", 1)


def counts_padding(node: ir.Node) -> bool:
    """Whether an average counts padding as voxels of value zero."""
    return bool(_number(node, "count_include_pad", 0))
