"""A path becomes a `Scan`: stored numbers, slope and intercept, affine, and findings about them."""

from ct3d_edge.scan.content import Stamp, content_sha256
from ct3d_edge.scan.dicom.wanted import PassedOver
from ct3d_edge.scan.discovery import Search, find_scans, scan_name, scans_in, search_scans
from ct3d_edge.scan.door import identifiers, is_series, open_scan, scan_files
from ct3d_edge.scan.findings import Finding, Severity, permit, require_sound
from ct3d_edge.scan.header import pair_of
from ct3d_edge.scan.nifti import NiftiScan, read_nifti
from ct3d_edge.scan.stream import go_on
from ct3d_edge.scan.volume import Scan, Volume

__all__ = [
    "Finding",
    "NiftiScan",
    "PassedOver",
    "Scan",
    "Search",
    "Severity",
    "Stamp",
    "Volume",
    "content_sha256",
    "find_scans",
    "go_on",
    "identifiers",
    "is_series",
    "open_scan",
    "pair_of",
    "permit",
    "read_nifti",
    "require_sound",
    "scan_files",
    "scan_name",
    "scans_in",
    "search_scans",
]
