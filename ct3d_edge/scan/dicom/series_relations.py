"""Scans of one search that concern each other: one series UID in several folders, one acquisition twice."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ct3d_edge.scan.dicom.folder_contents import SeriesFiles
from ct3d_edge.scan.dicom.frames import PASS_FEATURES
from ct3d_edge.scan.qc_flag import QCFlag

KERNEL = PASS_FEATURES.index("ConvolutionKernel")


def sibling_flag(folders: int, attributes: str) -> QCFlag:
    """That a scan shares its series UID with others of another identity."""
    detail = f"{folders} folders hold files of one series UID that differ in {attributes}; each is a scan of its own."
    return QCFlag("series_split", "warn", detail, attributes)


def copy_flag(folders: int, uid: str) -> QCFlag:
    """That the same files are in several folders, each of them a scan."""
    detail = f"{folders} folders hold copies of the series {uid}: several predictions of one acquisition."
    return QCFlag("repeated_acquisition", "warn", detail, uid)


def apart_flag(places: int) -> QCFlag:
    """That a scan is a part of a series, or contradicts another part, as each was named by itself."""
    detail = f"{places} of the paths that were named hold files of this series; name a folder that holds all of them."
    return QCFlag("incomplete_series", "warn", detail, places)


def twin_flags(scans: Sequence[tuple[Path, SeriesFiles]]) -> dict[Path, QCFlag]:
    """A flag for each scan whose slices another series shows with another kernel: soft tissue and lung."""
    alike: dict[tuple[object, ...], dict[Path, SeriesFiles]] = defaultdict(dict)
    for path, series in scans:
        if (key := _acquisition_key(series)) is not None:
            alike[key][path] = series
    found = {}
    for group in alike.values():
        for path, series in group.items():
            others = [other.uid for other in group.values() if _kernels(other) != _kernels(series)]
            if others:
                detail = (
                    f"The series {others[0]} shows the same slices with another convolution kernel: "
                    "two predictions of one acquisition."
                )
                found[path] = QCFlag("repeated_acquisition", "warn", detail, others[0])
    return found


def _acquisition_key(series: SeriesFiles) -> tuple[object, ...] | None:
    """Study, frame of reference and places of the slices; None if they are not known."""
    frames = [frame for image in series.images for frame in image.frames if not frame.is_localizer]
    places = sorted(frame.position for frame in frames if frame.position is not None)
    first = series.images[0]
    if not (places and first.study and first.series_hashes[0]):
        return None
    return first.study, first.series_hashes[0], len(places), places[0], places[-1]


def _kernels(series: SeriesFiles) -> frozenset[str]:
    return frozenset(frame.passes[KERNEL] for image in series.images for frame in image.frames)
