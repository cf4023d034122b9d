"""Which scans a network is made from: a folder divided on record, its contents known, its scans prepared once.

Knows neither Keras nor any runtime: dividing a folder needs neither, and neither do the processes that prepare it.
"""

from ct3d_edge.cohort.cache import Prepared, PreparedEntry, entry_file, prepare, remove_parts
from ct3d_edge.cohort.check import check_folder
from ct3d_edge.cohort.folder import refuse_unusable
from ct3d_edge.cohort.make import VALIDATION_FRACTION, split_folder
from ct3d_edge.cohort.progress import ScanHashed, ScanRead
from ct3d_edge.cohort.split import SUBSETS, Duplicate, Entry, LeftOut, Split, Subset, require_every_class
from ct3d_edge.cohort.split_file import from_json, read_split, to_json, write_split
from ct3d_edge.cohort.whole import whole_folder

__all__ = [
    "SUBSETS",
    "VALIDATION_FRACTION",
    "Duplicate",
    "Entry",
    "LeftOut",
    "Prepared",
    "PreparedEntry",
    "ScanHashed",
    "ScanRead",
    "Split",
    "Subset",
    "check_folder",
    "entry_file",
    "from_json",
    "prepare",
    "read_split",
    "refuse_unusable",
    "remove_parts",
    "require_every_class",
    "split_folder",
    "to_json",
    "whole_folder",
    "write_split",
]
