"""Scans through reading, preprocessing and a session, one record each: side by side, in order, each on its own."""

from ct3d_edge.pipeline.analyse import Analysis, analyse, analyse_scan, decide, judge
from ct3d_edge.pipeline.explaining import Explanation
from ct3d_edge.pipeline.folder import analyse_many
from ct3d_edge.pipeline.inbox import Inbox
from ct3d_edge.pipeline.load import load_model
from ct3d_edge.pipeline.model import Model
from ct3d_edge.pipeline.plan import Needs, Plan, make_plan
from ct3d_edge.pipeline.reading import Reading, prepare_volume, read_scan

__all__ = [
    "Analysis",
    "Explanation",
    "Inbox",
    "Model",
    "Needs",
    "Plan",
    "Reading",
    "analyse",
    "analyse_many",
    "analyse_scan",
    "decide",
    "judge",
    "load_model",
    "make_plan",
    "prepare_volume",
    "read_scan",
]
