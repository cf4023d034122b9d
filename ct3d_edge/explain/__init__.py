"""Where in a scan a network looked: Grad-CAM in closed form, by NumPy, and the way from its cells to the scan."""

from ct3d_edge.explain.cells import CELLS, Cells
from ct3d_edge.explain.chain import Pooling, find_pooling
from ct3d_edge.explain.gradcam import class_activation, grad_cam
from ct3d_edge.explain.head import Head, activated
from ct3d_edge.explain.map_file import has_note, save_map
from ct3d_edge.explain.place import MapOfScan, on_network_grid, on_scan_grid

__all__ = [
    "CELLS",
    "Cells",
    "Head",
    "MapOfScan",
    "Pooling",
    "activated",
    "class_activation",
    "find_pooling",
    "grad_cam",
    "has_note",
    "on_network_grid",
    "on_scan_grid",
    "save_map",
]
