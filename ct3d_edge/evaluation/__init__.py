"""A model judged on scans of known class, and calibrated on those that may be used for it.

Knows scikit-learn; reaches Keras through ``conversion`` and ONNX Runtime through ``runtime``, and neither before it is
needed.
"""

from ct3d_edge.evaluation.calibrate import Calibration, Standing, calibrate_run
from ct3d_edge.evaluation.evaluation import SCHEMA, Evaluation, evaluate
from ct3d_edge.evaluation.figures import Figures
from ct3d_edge.evaluation.files import require_folder, to_json, write_files
from ct3d_edge.evaluation.intervals import RESAMPLES, Estimate, Share
from ct3d_edge.evaluation.judge import Verdict
from ct3d_edge.evaluation.progress import Event, OnProgress, Resampled, ScanJudged
from ct3d_edge.evaluation.recorded import is_recorded, record_run
from ct3d_edge.evaluation.summary import summary

__all__ = [
    "RESAMPLES",
    "SCHEMA",
    "Calibration",
    "Estimate",
    "Evaluation",
    "Event",
    "Figures",
    "OnProgress",
    "Resampled",
    "ScanJudged",
    "Share",
    "Standing",
    "Verdict",
    "calibrate_run",
    "evaluate",
    "is_recorded",
    "record_run",
    "require_folder",
    "summary",
    "to_json",
    "write_files",
]
