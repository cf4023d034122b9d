"""Data to train and test on: procedural phantoms that stand in for scans that may not be shared."""

from ct3d_edge.datasets.phantom import Phantom, make_phantom
from ct3d_edge.datasets.phantom_file import las_affine, save_phantom, save_scan
from ct3d_edge.datasets.synth import synthesise

__all__ = ["Phantom", "las_affine", "make_phantom", "save_phantom", "save_scan", "synthesise"]
