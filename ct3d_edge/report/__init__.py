"""Results for people: table, sentences, overview picture."""

from ct3d_edge.report.montage import Montage
from ct3d_edge.report.page import ReportPage
from ct3d_edge.report.slices import one_slice, save_picture, slice_grid
from ct3d_edge.report.table import confidence_sentences, model_sentences, results_table, short_names
from ct3d_edge.report.views import overlay_picture

__all__ = [
    "Montage",
    "ReportPage",
    "confidence_sentences",
    "model_sentences",
    "one_slice",
    "overlay_picture",
    "results_table",
    "save_picture",
    "short_names",
    "slice_grid",
]
