"""A model that takes stored voxels of any size and gives probabilities, with no preprocessing left to its caller."""

from ct3d_edge.conversion.embedding.gate import LIMIT, embedded

__all__ = ["LIMIT", "embedded"]
