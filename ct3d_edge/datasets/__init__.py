"""Data to train and test on: published scans, and procedural phantoms where those may not be shared."""

from ct3d_edge.datasets.phantoms.phantom import Phantom, make_phantom
from ct3d_edge.datasets.phantoms.phantom_file import las_affine, save_phantom, save_scan
from ct3d_edge.datasets.phantoms.synth import synthesise

__all__ = ["Phantom", "las_affine", "make_phantom", "save_phantom", "save_scan", "synthesise"]
