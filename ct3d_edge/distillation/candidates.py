"""The small space of networks that may take a teacher's place: channels, depth, stride, input size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ct3d_edge.contract import Contract

if TYPE_CHECKING:
    from ct3d_edge.training.network import NetworkSpec

FILTERS = ((32, 64, 128, 256), (24, 48, 96, 192), (16, 32, 64, 128), (8, 16, 32, 64), (4, 8, 16, 32))
"""Channels of the blocks, half and fewer of the tutorial's."""

DEPTHS_AND_STRIDES = ((4, 1), (3, 1), (3, 2))
"""Blocks, and the stride of the first convolution."""

CHANNEL_SHARES = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)
"""Of the teacher's channels that are left by pruning."""

INPUT_SHARES = (1.0, 0.75, 0.5)
"""Of the sides of the teacher's input."""


@dataclass(frozen=True)
class Candidate:
    """A network and its input, not measured yet."""

    network: "NetworkSpec"
    size: tuple[int, int, int]

    @cached_property
    def multiply_adds(self) -> int:
        """Of all convolutions for one volume."""
        return self.network.count_multiply_adds(self.size)

    @cached_property
    def weight_bytes(self) -> int:
        """Of its weights in float32."""
        return 4 * int(self.network.build(*self.size).count_params())


def list_candidates(teacher: Contract) -> list[Candidate]:
    """The space for an input, the most arithmetic first: channels, depth, stride of the first layer, input size."""
    from ct3d_edge.training.network import NetworkSpec

    networks = [
        NetworkSpec(
            "-".join(map(str, filters[:depth])) + ("-stride2" if stride > 1 else ""),
            filters[:depth],
            stem_stride=stride,
            hidden_units=128,
        )
        for filters in FILTERS
        for depth, stride in DEPTHS_AND_STRIDES
    ]
    sizes = [_scale(teacher.shape, share) for share in INPUT_SHARES]
    found = [Candidate(network, size) for network in networks for size in sizes if min(size) >= network.smallest_size()]
    return sorted(found, key=lambda candidate: -candidate.multiply_adds)


def list_pruned_candidates(spec: "NetworkSpec", teacher: Contract) -> list[Candidate]:
    """The teacher's network with fewer channels, the most first."""
    from ct3d_edge.training.pruning import scale_filters

    return [Candidate(scale_filters(spec, share), teacher.shape) for share in CHANNEL_SHARES]


def _scale(size: Sequence[int], share: float) -> tuple[int, int, int]:
    width, height, depth = (round(side * share) for side in size)
    return width, height, depth
