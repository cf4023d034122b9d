"""Results for people: table, sentences, overview picture."""

from ct3d_edge.report.montage import Montage
from ct3d_edge.report.notes import Note, group_messages
from ct3d_edge.report.page import ReportPage
from ct3d_edge.report.slices import one_slice, save_picture, slice_grid
from ct3d_edge.report.table import STYLES, confidence_sentences, plain_table, results_table, row_names
from ct3d_edge.report.views import overlay_picture

__all__ = [
    "STYLES",
    "Montage",
    "Note",
    "ReportPage",
    "confidence_sentences",
    "group_messages",
    "one_slice",
    "overlay_picture",
    "plain_table",
    "results_table",
    "row_names",
    "save_picture",
    "slice_grid",
]
