"""A path becomes a `Scan`: stored numbers, slope and intercept, affine, and findings about them."""

from ct3d_edge.scan.content import Stamp, content_sha256
from ct3d_edge.scan.discovery import find_scans, scan_name, scans_in
from ct3d_edge.scan.findings import Finding, Severity
from ct3d_edge.scan.header import pair_of
from ct3d_edge.scan.nifti import NiftiScan, read_nifti
from ct3d_edge.scan.stream import go_on
from ct3d_edge.scan.volume import Scan, Volume

__all__ = [
    "Finding",
    "NiftiScan",
    "Scan",
    "Severity",
    "Stamp",
    "Volume",
    "content_sha256",
    "find_scans",
    "go_on",
    "pair_of",
    "read_nifti",
    "scan_name",
    "scans_in",
]
