"""Two folders of scans become a trained Keras network with its contract. Imports Keras and TensorFlow."""

from ct3d_edge.cohort import Entry, ScanHashed, ScanRead, Split, split_folder
from ct3d_edge.training.architecture import build_model, smallest_size
from ct3d_edge.training.dataset import ScanArrays, VolumeFiles, batches, prepared_scans
from ct3d_edge.training.fit import TrainedRun, train
from ct3d_edge.training.progress import EpochDone, EpochRecord, Event, OnProgress

__all__ = [
    "Entry",
    "EpochDone",
    "EpochRecord",
    "Event",
    "OnProgress",
    "ScanArrays",
    "ScanHashed",
    "ScanRead",
    "Split",
    "TrainedRun",
    "VolumeFiles",
    "batches",
    "build_model",
    "prepared_scans",
    "smallest_size",
    "split_folder",
    "train",
]
