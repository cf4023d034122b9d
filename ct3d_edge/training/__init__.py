"""Two folders of scans become a trained Keras network with its contract. Imports Keras and TensorFlow."""

from ct3d_edge.training.architecture import build_model, smallest_size
from ct3d_edge.training.dataset import ScanArrays, batches, prepared_scans
from ct3d_edge.training.fit import TrainedRun, train
from ct3d_edge.training.progress import EpochDone, EpochRecord, Event, OnProgress, ScanRead
from ct3d_edge.training.split import Split, split_folder

__all__ = [
    "EpochDone",
    "EpochRecord",
    "Event",
    "OnProgress",
    "ScanArrays",
    "ScanRead",
    "Split",
    "TrainedRun",
    "batches",
    "build_model",
    "prepared_scans",
    "smallest_size",
    "split_folder",
    "train",
]
