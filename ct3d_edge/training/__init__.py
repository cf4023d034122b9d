"""Two folders of scans become a trained Keras network with its contract. Imports Keras and TensorFlow."""

from ct3d_edge.cohort import Entry, ScanHashed, ScanRead, Split, split_folder
from ct3d_edge.training.architecture import build_model, smallest_size
from ct3d_edge.training.batches import Order, batches
from ct3d_edge.training.dataset import ScanArrays, VolumeFiles, prepared_scans
from ct3d_edge.training.distribution import Distribution
from ct3d_edge.training.fit import train
from ct3d_edge.training.presets import DEFAULT, PRESETS, TUTORIAL, Preset
from ct3d_edge.training.progress import EpochDone, EpochRecord, Event, OnProgress, Resumed, WaitingForWorkers
from ct3d_edge.training.run import TrainedRun

__all__ = [
    "DEFAULT",
    "PRESETS",
    "TUTORIAL",
    "Distribution",
    "Entry",
    "EpochDone",
    "EpochRecord",
    "Event",
    "OnProgress",
    "Order",
    "Preset",
    "Resumed",
    "ScanArrays",
    "ScanHashed",
    "ScanRead",
    "Split",
    "TrainedRun",
    "VolumeFiles",
    "WaitingForWorkers",
    "batches",
    "build_model",
    "prepared_scans",
    "smallest_size",
    "split_folder",
    "train",
]
