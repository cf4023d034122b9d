"""A series cut, doubled, moved, renamed and given other identities at random: right volumes, refusals or flags."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import open_scan

from .test_series import hu_of

SLICES = 12
FEWEST_SLICES = 8
"""Scans of fewer are refused by the check `too_few_slices`, which looks at any scan."""

SOURCE_HU = 200
"""Voxels of slice ``n`` of source ``s`` hold ``SOURCE_HU * s + 10 * n``, and a pattern of 0 to 3 HU."""

PATTERN = np.arange(20, dtype=np.int16).reshape(4, 5) % 4

STRAY = np.full(PATTERN.shape, 7 - made.INTERCEPT, np.uint16).tobytes()
"""The pixels of a slice that no source has."""

IDENTITIES = ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "SeriesNumber")
UIDS = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
NO_ATTRIBUTE = "ImageComments"
PASSES = ("AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel", "AcquisitionTime", NO_ATTRIBUTE)
"""What separates a second source; the last one means nothing."""

OFFSETS = (0, 0.00375, 0.1, 0.3, 0.5, 0.9, 1, 2.5, SLICES)
"""Of the second source, in slice distances."""

DISTORTIONS: list[dict[str, object]] = [
    {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
    {"ImageOrientationPatient": [1, 0, 0, 0, 0.995, 0.0998]},
    {"PixelSpacing": [3.0, 2.1]},
    {"Modality": "PT"},
    {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MIP"]},
]

Change = Callable[[st.DataObject, list[Dataset]], list[Dataset]]


SPLITS = (["pass_split"], ["series_split"])
"""Flags of a scan that was separated from others, and is right."""


def source(number: int, offset: float) -> list[Dataset]:
    """Slices of one source, ``offset`` slice distances up; numbered upward, after those of the sources before it."""
    hu = np.stack([PATTERN + SOURCE_HU * number + 10 * n for n in range(SLICES)], axis=2).astype(np.int16)
    datasets = made.series_datasets(hu)
    for index, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}.{index + 1}"
        dataset.InstanceNumber = number * SLICES + index + 1
        dataset.ImagePositionPatient[2] = (index + offset) * made.STEP
    return datasets


def some(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """One of the slices, or several."""
    chosen = data.draw(st.sets(st.integers(0, len(datasets) - 1), min_size=1, max_size=len(datasets)))
    return [datasets[n] for n in sorted(chosen)]


def cut(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    lost = some(data, datasets)
    return [dataset for dataset in datasets if all(dataset is not other for other in lost)]


def double(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    copies = deepcopy(some(data, datasets))
    if data.draw(st.booleans()):
        for copy in copies:
            copy.SOPInstanceUID += ".9"
    return [*datasets, *copies]


def conflict(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """Other pixels under a UID that is there, in its place or another one."""
    copies = deepcopy(some(data, datasets))
    for copy in copies:
        copy.PixelData = STRAY
        copy.ImagePositionPatient[2] += data.draw(st.sampled_from([0, 3.7]))
    return [*datasets, *copies]


def move(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """Along the body by less than a tenth of a slice distance or more, or sideways."""
    axis, by = data.draw(st.sampled_from([(2, 0.16), (2, 2.4), (2, -3.6), (2, 20.8), (0, 0.1), (0, 0.9), (1, 60.0)]))
    for dataset in some(data, datasets):
        dataset.ImagePositionPatient[axis] += by
    return datasets


def reidentify(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    keyword = data.draw(st.sampled_from(IDENTITIES))
    for dataset in some(data, datasets):
        setattr(dataset, keyword, data.draw(st.sampled_from(["1", "2", ""])))
    return datasets


def date(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """Made on other days, one or more apart; by one attribute or the other."""
    keyword = data.draw(st.sampled_from(["AcquisitionDate", "ContentDate", "StudyDate", "SeriesDate"]))
    for dataset in datasets:
        setattr(dataset, keyword, "20200101")
    for dataset in some(data, datasets):
        setattr(dataset, keyword, data.draw(st.sampled_from(["20200102", "20200301", ""])))
    return datasets


def take_uids(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """Without UIDs of series or study, as some exports leave files."""
    keyword = data.draw(st.sampled_from(UIDS))
    for dataset in datasets if data.draw(st.booleans()) else some(data, datasets):
        if keyword in dataset:
            delattr(dataset, keyword)
    return datasets


def renumber(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """In another order, anew for each source, or not at all; and by that another attribute of each slice."""
    count = len(datasets)
    orders: list[list[int | None]] = [[1 + n % SLICES for n in range(count)], [1] * count, [None] * count]
    orders.append(list(data.draw(st.permutations(range(1, count + 1)))))
    numbers = data.draw(st.sampled_from(orders))
    keyword = data.draw(st.sampled_from(["InstanceNumber", "AcquisitionTime", "ContentTime", "AcquisitionNumber"]))
    for dataset, number in zip(datasets, numbers, strict=True):
        setattr(dataset, keyword, f"1010{number:02}" if number and keyword.endswith("Time") else number)
    return datasets


def rescale(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """Without an element, or the same HU stored with another intercept."""
    lacking = data.draw(st.sampled_from(["RescaleIntercept", "RescaleSlope", "BitsStored", ""]))
    for dataset in some(data, datasets):
        if lacking:
            dataset[lacking].value = None
        elif dataset.RescaleIntercept == made.INTERCEPT:
            stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
            made.set_pixels(dataset, stored.astype(int) - 1024, np.uint16)
            dataset.RescaleIntercept = made.INTERCEPT + 1024
    return datasets


def distort(data: st.DataObject, datasets: list[Dataset]) -> list[Dataset]:
    """Another direction, distance, size or modality."""
    values = data.draw(st.sampled_from(DISTORTIONS))
    for dataset in some(data, datasets):
        for name, value in values.items():
            setattr(dataset, name, value)
    return datasets


CHANGES: tuple[Change, ...] = (cut, double, conflict, move, reidentify, date, take_uids, renumber, rescale, distort)


def draw_series(data: st.DataObject) -> list[Dataset]:
    """Slices of one source or two, changed up to three times."""
    datasets, kinds = source(0, 0), list(CHANGES)
    if data.draw(st.booleans()):
        keyword = data.draw(st.sampled_from((*IDENTITIES, *PASSES)))
        # A pass that continues another one is another position of the table: one scan.
        offset = data.draw(st.sampled_from(OFFSETS if keyword in IDENTITIES else OFFSETS[:-1]))
        second = source(1, offset)
        for number, those in enumerate((datasets, second)):
            for dataset in those:
                setattr(dataset, keyword, f"10100{number}" if keyword.endswith("Time") else f"{number + 1}")
        datasets = [*datasets, *second]
        if keyword in UIDS and offset == SLICES:  # without it nothing separates a source that continues another
            kinds.remove(take_uids)
        if keyword == NO_ATTRIBUTE:  # without their numbers, only voxels separate them
            kinds.remove(renumber)
    changes = data.draw(st.lists(st.sampled_from(kinds), max_size=3))
    # Where the slice that a conflicting one conflicts with is lost, nothing is left to compare it with.
    for change in sorted(changes, key=lambda change: change is conflict):
        if datasets:
            datasets = change(data, datasets)
    return datasets


def write(root: Path, data: st.DataObject, folders: list[int], datasets: list[Dataset]) -> Path:
    """Write each data set to its folder, in any order and under any name."""
    names = data.draw(st.permutations(range(len(datasets))))
    pattern = data.draw(st.sampled_from(["{:03}.dcm", "IM{}", "{}"]))
    for name, folder, dataset in zip(names, folders, datasets, strict=True):
        made.save(dataset, root / f"part {folder}" / pattern.format(name))
    return root


def outcome_of(scan: Path) -> tuple[str, list[str], list[int], float]:
    """Error, codes of flags, what each slice shows, and distance of slices."""
    try:
        opened = open_scan(scan)
        hu = hu_of(opened)
    except ScanError as error:
        return error.code, [], [], 0
    assert opened.affine is not None
    step = float(np.linalg.norm(opened.affine[:3, 2])) / made.STEP
    flags = sorted(flag.code for flag in opened.flags if flag.severity == "warn")
    require_pattern(hu, flags)
    return "", flags, np.rint(hu[0, 0]).astype(int).tolist(), round(step, 3)


def require_pattern(hu: NDArray[np.float64], flags: list[str]) -> None:
    assert flags or np.array_equal(hu - hu[:1, :1], np.broadcast_to(PATTERN[:, :, None], hu.shape))


def is_right(shown: list[int], step: float) -> bool:
    """Whether slices are of one source, in order, as far apart as they are in it."""
    sources, numbers = np.divmod(np.array(shown), SOURCE_HU)
    apart = np.diff(numbers // 10)
    return bool(len(set(sources)) == 1 and (numbers % 10 == 0).all() and (np.abs(apart - step) < 0.11).all())


def require_right_or_reported(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    datasets = draw_series(data)
    if not datasets:
        return
    several = data.draw(st.booleans())
    folders = data.draw(
        st.lists(st.integers(0, 2 * several), min_size=len(datasets), max_size=len(datasets))
        if data.draw(st.booleans())
        else st.just([several and dataset.SOPInstanceUID.split(".")[3] != "1" for dataset in datasets])
    )
    # Copies in other folders are scans of their own, whose pixels are not compared.
    folder_of = {dataset.SOPInstanceUID: folder for dataset, folder in zip(datasets, folders, strict=True)}
    if any(dataset.PixelData == STRAY for dataset in datasets):
        folders = [folder_of[dataset.SOPInstanceUID] for dataset in datasets]
    outcomes = []
    for _ in range(2):
        root = write(tmp_path_factory.mktemp("any"), data, folders, datasets)
        try:
            scans = find_scans([root])
        except UsageError:
            scans = []
        outcomes.append({str(scan.relative_to(root)): outcome_of(scan) for scan in scans})
    assert outcomes[0] == outcomes[1], "names and order decide nothing"
    for scan, (error, flags, shown, step) in outcomes[0].items():
        if error or len(shown) < FEWEST_SLICES:
            continue
        assert flags or is_right(shown, step), (scan, shown, step)
        assert len(flags) > 1 or flags not in SPLITS or is_right(shown, step), (scan, shown, step)


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_series_is_right_or_refused_or_flagged(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    require_right_or_reported(tmp_path_factory, data)


@pytest.mark.slow
@settings(max_examples=2000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_series_is_right_or_refused_or_flagged_in_many_cases(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    require_right_or_reported(tmp_path_factory, data)
