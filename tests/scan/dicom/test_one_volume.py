"""Never two volumes in one, whatever the files are called and wherever they lie."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair, each_value
from pydicom.dataset import Dataset

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ScanError
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.discovery import discover_scans, find_scans
from ct3d_edge.scan.loader import open_scan

from .conftest import code_of
from .test_series import hu_of
from .test_series_membership import first_pass, other_pass

Split = Callable[[int], int]


def shuffled(folder: Path, datasets: list[Dataset], seed: int) -> Path:
    """Write data sets under names that tell nothing of their order."""
    order = np.random.default_rng(seed).permutation(len(datasets))
    return made.write_datasets(folder, [datasets[n] for n in order])


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_a_conflict_does_not_depend_on_file_names(
    tmp_path: Path, hu: NDArray[np.int16], names: tuple[str, str, str]
) -> None:
    """The second file of a UID shows what a third one shows: it is no copy of the first all the same."""
    datasets = made.series_datasets(hu)
    stray = made.ct_dataset(hu[:, :, 5].T, 5, "1.2.3")
    stray.SOPInstanceUID = datasets[3].SOPInstanceUID
    folder = made.write_datasets(tmp_path / "series", [d for n, d in enumerate(datasets) if n not in (3, 5)])
    for name, dataset in zip(names, (datasets[3], datasets[5], stray), strict=True):
        made.save(dataset, folder / f"{name}.dcm")
    assert code_of(folder) == "conflicting_instances"


@pytest.mark.parametrize(
    ("seed", "keyword", "offset"),
    each_pair(range(3), ["AcquisitionNumber", "TemporalPositionIdentifier"], [0.00375, 0.5]),
)
def test_two_breaths_cannot_be_allowed_into_one_volume(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float, seed: int
) -> None:
    datasets = [*first_pass(hu, **{keyword: 1}), *other_pass(hu, offset, **{keyword: 2})]
    folder = shuffled(tmp_path / "series", datasets, seed)
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(folder, raise_refused=False)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize(
    ("keyword", "slices"),
    each_value(
        ["PixelRepresentation", "BitsStored", "HighBit", "RescaleSlope"], [range(1), range(4, 6), range(11, 12)]
    ),
)
def test_an_element_that_only_some_slices_lack_is_not_guessed(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, slices: range
) -> None:
    datasets = made.series_datasets(hu)
    for number in slices:
        delattr(datasets[number], keyword)
    folder = made.write_datasets(tmp_path / "series", datasets)
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(folder)
    assert caught.value.code == "missing_element"


@pytest.mark.parametrize("odd", [0, 5, 11])
@pytest.mark.parametrize("what", ["size", "direction", "spacing"])
def test_the_slice_that_is_unlike_the_others_is_named(
    tmp_path: Path, hu: NDArray[np.int16], odd: int, what: str
) -> None:
    datasets = made.series_datasets(hu)
    if what == "size":
        made.set_pixels(datasets[odd], np.zeros((20, 22)), np.uint16)
    elif what == "direction":
        datasets[odd].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    else:
        datasets[odd].PixelSpacing = [3.0, 2.1]
    folder = made.write_datasets(tmp_path / "series", datasets)
    with pytest.raises(ScanError, match=rf"\b{odd:03}\.dcm") as caught:
        open_scan(folder)
    assert caught.value.code == "inconsistent_slices"


@pytest.mark.parametrize("offset", [0.00375, 0.25, 0.5])
def test_folders_of_two_passes_stay_apart(tmp_path: Path, hu: NDArray[np.int16], offset: float) -> None:
    passes = [first_pass(hu, AcquisitionNumber=1), other_pass(hu, offset, AcquisitionNumber=2)]
    folders = [shuffled(tmp_path / f"pass {n}", those, n) for n, those in enumerate(passes)]
    assert find_scans([tmp_path]) == folders
    for folder, expected in zip(folders, (hu, hu[:, ::-1]), strict=True):
        assert np.array_equal(hu_of(open_scan(folder)), expected)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "PatientID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("missing", [False, True], ids=["other", "one lacks it"])
def test_a_name_that_fits_several_identities_opens_none(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, missing: bool
) -> None:
    one, two = first_pass(hu[:, :, :6], **{keyword: "1"}), other_pass(hu, 6, **{keyword: "2"})[:6]
    if missing:
        for dataset in two:
            delattr(dataset, keyword)
    folders = [made.write_datasets(tmp_path / f"patient_{n}", those) for n, those in enumerate((one, two))]
    search = discover_scans([tmp_path])
    assert list(search.scans) == folders
    assert [passed.code for passed in search.passed_over] == ["series_split"]
    assert keyword in search.passed_over[0].reason
    assert {scan: [(f.code, f.severity, f.value) for f in flags] for scan, flags in search.flags.items()} == {
        str(folder): [("series_split", "warn", keyword)] for folder in folders
    }
    with pytest.raises(ScanError, match=r"name one of their folders") as caught:
        open_scan(tmp_path / "1.2.3")
    assert caught.value.code == "multiple_series"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "PatientID"])
def test_files_beside_a_folder_of_another_identity_keep_to_themselves_and_say_so(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str
) -> None:
    made.write_datasets(tmp_path, first_pass(hu, **{keyword: "1"}))
    below = made.write_datasets(tmp_path / "below", other_pass(hu, 12, **{keyword: "2"}))
    assert find_scans([tmp_path], name_by_uid=True) == [tmp_path / "1.2.3", below]
    scan = open_scan(tmp_path / "1.2.3")
    assert np.array_equal(hu_of(scan), hu)
    assert [(f.code, f.severity) for f in scan.flags] == [("series_split", "warn")]
    assert keyword in scan.flags[0].detail


def test_files_without_a_series_uid_are_not_taken_from_other_folders(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    parts = first_pass(hu[:, :, :6]), other_pass(hu, 6)[:6]
    for dataset in (*parts[0], *parts[1]):
        del dataset.SeriesInstanceUID
    made.write_datasets(tmp_path, parts[0])
    made.write_datasets(tmp_path / "below", parts[1])
    names = find_scans([tmp_path], name_by_uid=True)
    assert names == [tmp_path / "unnamed", tmp_path / "below"]
    assert [open_scan(name).shape[2] for name in names] == [6, 6]


@pytest.mark.parametrize("split", [lambda n: n // 4, lambda n: n % 2], ids=["contiguous", "alternating"])
def test_folders_that_complete_one_another_are_one_scan(tmp_path: Path, hu: NDArray[np.int16], split: Split) -> None:
    for number, dataset in enumerate(first_pass(hu, FrameOfReferenceUID="1.5")):
        made.save(dataset, tmp_path / f"part {split(number)}" / f"{number:03}.dcm")
    assert find_scans([tmp_path]) == [tmp_path / "1.2.3"]
    assert np.array_equal(hu_of(open_scan(tmp_path / "1.2.3")), hu)


@pytest.mark.parametrize(
    ("keyword", "marked"),
    each_value(
        ["AcquisitionNumber", "ContrastBolusAgent", "ImageType"],
        [{1, 4, 6}, {0, 3, 4, 8, 11}, {2, 3, 5, 8, 9, 10}, set(range(3, 9))],
    ),
)
def test_an_attribute_that_changes_along_a_sound_series_is_no_pass(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, marked: set[int]
) -> None:
    """Slices of one value leave holes where those of the other lie: neither is a pass of its own."""
    values = {"AcquisitionNumber": (1, 2), "ContrastBolusAgent": ("", "iodine")}
    plain, other = values.get(keyword, (["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "AXIAL", "CT"]))
    datasets = made.series_datasets(hu)
    for number, dataset in enumerate(datasets):
        setattr(dataset, keyword, other if number in marked else plain)
    scan = open_scan(shuffled(tmp_path / "series", datasets, len(marked)))
    assert np.array_equal(hu_of(scan), hu)
    assert scan.flags == ()


@pytest.mark.parametrize(
    ("first", "kept", "lost"), each_pair([0, 1], [range(12), range(4, 9), range(0, 12, 2)], [None, 5])
)
def test_passes_of_other_extent_or_distance_are_told_by_their_attribute(
    tmp_path: Path, hu: NDArray[np.int16], kept: range, lost: int | None, first: int
) -> None:
    one, two = first_pass(hu, AcquisitionNumber=1 + first), other_pass(hu, 0.3, AcquisitionNumber=2 - first)
    datasets = [each for n, each in enumerate(one) if n != lost] + [two[n] for n in kept]
    folder = shuffled(tmp_path / "series", datasets, len(kept))
    with pytest.raises(ScanError, match="AcquisitionNumber") as caught:
        open_scan(folder, raise_refused=False)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize(
    ("offset", "kept", "lost"), each_pair([0.00375, 0.3, 0.8], [range(12), range(4, 9), range(6, 12)], [None, 5])
)
def test_a_pass_beside_another_is_told_by_its_places(
    tmp_path: Path, hu: NDArray[np.int16], offset: float, kept: range, lost: int | None
) -> None:
    two = other_pass(hu, offset, InstanceNumber=None)
    datasets = [each for n, each in enumerate(first_pass(hu, InstanceNumber=None)) if n != lost]
    datasets += [two[n] for n in kept]
    folder = shuffled(tmp_path / "series", datasets, len(kept))
    with pytest.raises(ScanError, match="ImagePositionPatient") as caught:
        open_scan(folder, raise_refused=False)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize("step", [0.625, 0.75, 1.25])
def test_places_rounded_to_a_tenth_of_a_millimetre_are_no_passes(
    tmp_path: Path, hu: NDArray[np.int16], step: float
) -> None:
    datasets = made.series_datasets(hu)
    for number, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[2] = f"{number * step + 0.001:.1f}"
    scan = open_scan(shuffled(tmp_path / "series", datasets, 1))
    assert np.array_equal(hu_of(scan), hu)


def kernels(hu: NDArray[np.int16], uids: tuple[str, ...], kernels: tuple[str, ...]) -> list[list[Dataset]]:
    """Reconstructions of one acquisition, each a series."""
    found = []
    for uid, kernel in zip(uids, kernels, strict=True):
        found.append(made.series_datasets(hu, uid))
        for dataset in found[-1]:
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.0", "1.2.5"
            dataset.ConvolutionKernel = kernel
    return found


@pytest.mark.parametrize("together", [False, True], ids=["folders", "one folder"])
def test_series_of_one_acquisition_with_two_kernels_are_flagged(
    tmp_path: Path, hu: NDArray[np.int16], together: bool
) -> None:
    uids = ("1.2.31", "1.2.32")
    for number, datasets in enumerate(kernels(hu, uids, ("B30f", "B70f"))):
        made.write_datasets(tmp_path / ("all" if together else f"{number}"), datasets, f"{number}-{{}}.dcm")
    search = discover_scans([tmp_path])
    assert len(search.scans) == 2
    assert [[(f.code, f.severity, f.value) for f in search.flags[str(scan)]] for scan in search.scans] == [
        [("repeated_acquisition", "warn", uid)] for uid in uids[::-1]
    ]
    report = QualityChecker(Contract(shape=(16, 12, 8)), search_flags=search.flags).check(search.scans[0])
    assert "repeated_acquisition" in {flag.code for flag in report.flags}


@pytest.mark.parametrize(
    ("keyword", "value"), [("ConvolutionKernel", "B30f"), ("StudyInstanceUID", "9"), ("FrameOfReferenceUID", "9")]
)
def test_other_series_of_the_same_extent_are_not_flagged(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, value: str
) -> None:
    one, two = kernels(hu, ("1.2.31", "1.2.32"), ("B30f", "B70f"))
    for dataset in two:
        setattr(dataset, keyword, value)
    made.write_datasets(tmp_path / "one", one)
    made.write_datasets(tmp_path / "two", two)
    assert discover_scans([tmp_path]).flags == {}
