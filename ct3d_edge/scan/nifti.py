"""Read NIfTI files, as a stream of planes or as a `Volume` in memory.

nibabel does not read the voxels, because its arrays scale to float64 and because it accepts files with a wrong
checksum.
"""

from collections.abc import Callable
from pathlib import Path

from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.nifti_header import read_nifti_header
from ct3d_edge.scan.streamed_scan import StreamedScan
from ct3d_edge.scan.volume import Volume


class NiftiScan(StreamedScan):
    """A NIfTI file as a `StreamedScan`.

    Parameters
    ----------
    path
        A .nii, .nii.gz, .hdr or .img file, recognised by content.
    check_cancelled
        Called after each plane; its exception ends the reading.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        See `read_nifti_header`; also if the voxels are missing, or the file is too small for them.
    """

    def __init__(self, path: Path | str, check_cancelled: Callable[[], None] = no_cancellation) -> None:
        super().__init__(path, read_nifti_header, check_cancelled)


def read_nifti(path: Path | str) -> Volume:
    """Read one scan into memory; see `NiftiScan` and `StreamedScan.load`."""
    return NiftiScan(path).load()
