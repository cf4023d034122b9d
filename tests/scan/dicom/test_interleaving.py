"""Passes that only the numbers or times of their slices separate, or slices that lie among others."""

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair, each_value
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import open_scan

from .test_one_volume import shuffled
from .test_passes import NUMBERED, report_of, shown_by
from .test_series import hu_of
from .test_series_membership import first_pass, other_pass


def numbered(datasets: list[Dataset], numbers: list[int] | None, keyword: str) -> list[Dataset]:
    """Slices whose numbers or times grow in the order of the list, or as ``numbers`` say; None deletes them."""
    for count, dataset in enumerate(datasets):
        del dataset.InstanceNumber
        if numbers is not None:
            value = numbers[count]
            setattr(dataset, keyword, value if keyword == "InstanceNumber" else f"1010{value:02}.25")
    return datasets


RUNS = {
    "one after the other": [*range(1, 13), *range(13, 25)],
    "the second downward": [*range(1, 13), *range(24, 12, -1)],
    "the second first": [*range(13, 25), *range(1, 13)],
    "each from one": [*range(1, 13), *range(1, 13)],
    "each from seven, downward": [*range(18, 6, -1), *range(18, 6, -1)],
}


@pytest.mark.parametrize(
    ("offset", "numbers", "seed"), each_pair([0.5, 0, 0.00375, 0.3, 0.9, 3.5, -0.5], RUNS, range(3))
)
def test_passes_that_only_their_numbers_separate(
    tmp_path: Path, hu: NDArray[np.int16], numbers: str, offset: float, seed: int
) -> None:
    """At half a slice distance the two together look like one volume of thinner slices."""
    datasets = numbered([*first_pass(hu), *other_pass(hu, offset)], RUNS[numbers], "InstanceNumber")
    folder = shuffled(tmp_path / "series", datasets, seed)
    scans = find_scans([folder])
    if offset == 0 and numbers.startswith("each"):  # two slices of one number in one place: of which pass is either?
        assert [report_of(scan).error[0] for scan in scans] == ["multiple_volumes"]  # type: ignore[index]
        return
    assert all("#InstanceNumber-" in scan.name for scan in scans)
    shown = shown_by(scans)
    assert sorted(int(volume[0, 0, 0]) for volume in shown) == sorted([int(hu[0, 0, 0]), int(hu[0, -1, 0])])
    for volume in shown:
        assert np.array_equal(volume, hu) or np.array_equal(volume, hu[:, ::-1])


@pytest.mark.parametrize("keyword", ["AcquisitionTime", "ContentTime"])
@pytest.mark.parametrize("offset", [0.5, 0.3])
def test_passes_that_only_the_times_of_their_slices_separate(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float
) -> None:
    datasets = numbered([*first_pass(hu), *other_pass(hu, offset)], [*range(24)], keyword)
    scans = find_scans([shuffled(tmp_path / "series", datasets, 1)])
    assert len(shown_by(scans)) == 2
    assert all(f"#{keyword}-" in scan.name and "1010" not in scan.name for scan in scans)


@pytest.mark.parametrize("lost", [{4}, {4, 5}, {4, 17}])
def test_a_run_of_numbers_with_a_hole_is_refused_for_it(tmp_path: Path, hu: NDArray[np.int16], lost: set[int]) -> None:
    datasets = numbered([*first_pass(hu), *other_pass(hu, 0.5)], [*range(1, 25)], "InstanceNumber")
    folder = shuffled(tmp_path / "series", [d for n, d in enumerate(datasets) if n not in lost], 1)
    found = [report_of(scan) for scan in find_scans([folder])]
    holes = [sum(flag.code == "missing_slices" for flag in report.flags) for report in found]
    assert holes == [1, int(any(n > 11 for n in lost))]


@pytest.mark.parametrize(
    "numbers",
    [
        [*range(1, 13)],
        [*range(12, 0, -1)],
        [*range(1, 24, 2)],
        [1] * 12,
        [1, 2, 3, 4, 5, 6] * 2,
        [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9],
        *(np.random.default_rng(seed).permutation(12).tolist() for seed in range(8)),
        *(np.random.default_rng(seed).integers(1, 9, 12).tolist() for seed in range(8)),
        [*range(7, 13), *range(1, 7)],
        [*range(6, 0, -1), *range(7, 13)],
    ],
    ids=str,
)
def test_numbers_of_one_pass_separate_nothing(tmp_path: Path, hu: NDArray[np.int16], numbers: list[int]) -> None:
    folder = made.write_datasets(tmp_path, numbered(first_pass(hu), numbers, "InstanceNumber"))
    scan = open_scan(folder)
    assert scan.flags == ()
    assert np.array_equal(hu_of(scan), hu)


@pytest.mark.parametrize("offset", [0, 0.3, 0.5])
def test_phases_that_follow_one_another_in_an_enhanced_file_are_scans(
    tmp_path: Path, hu: NDArray[np.int16], offset: float
) -> None:
    """No attribute of the frames differs, but the frames begin anew."""
    slices = hu.shape[2]
    dataset = made.enhanced_dataset(np.concatenate([hu, hu[:, ::-1]], axis=2))
    for number, groups in zip(range(2 * slices)[::-1], dataset.PerFrameFunctionalGroupsSequence, strict=True):
        phase, index = divmod(number, slices)
        groups.PlanePositionSequence[0].ImagePositionPatient[2] = (index + phase * offset) * made.STEP
    path = made.save(dataset, tmp_path / "series" / "phases")
    scans = find_scans([tmp_path])
    assert [scan.name for scan in scans] == ["1.2.3#FrameNumber-1", "1.2.3#FrameNumber-13"]
    shown = shown_by(scans)
    assert np.array_equal(shown[0], hu[:, ::-1])
    assert np.array_equal(shown[1], hu)
    with pytest.raises(ScanError, match="FrameNumber"):
        open_scan(path)


@pytest.mark.parametrize("offset", [0.02, 0.2, 0.45, 0.5, 0.55, 0.8, 0.98, 1, 1.02, 1.5, 2, 6, 11, 12, 15])
@pytest.mark.parametrize("numbers", RUNS)
def test_runs_are_separated_or_refused(tmp_path: Path, hu: NDArray[np.int16], numbers: str, offset: float) -> None:
    """Whatever a pass is called, it holds the slices of one source."""
    datasets = numbered([*first_pass(hu), *other_pass(hu, offset)], RUNS[numbers], "InstanceNumber")
    for scan in find_scans([shuffled(tmp_path / "series", datasets, 2)]):
        if report_of(scan).error or "#" not in scan.name:
            continue
        shown = hu_of(open_scan(scan))
        assert np.array_equal(shown, hu) or np.array_equal(shown, hu[:, ::-1])


@pytest.mark.parametrize(
    ("strays", "keyword", "offset"),
    each_value([1, 2], [*NUMBERED[:5], "ConvolutionKernel", "AcquisitionTime"], [0, 0.00375, 0.3, 0.5, 0.9]),
)
def test_a_lone_slice_of_another_pass_is_refused_by_its_attribute(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float, strays: int
) -> None:
    one, other = ("101001", "101002") if keyword == "AcquisitionTime" else ("1", "2")
    two = other_pass(hu, offset, **{keyword: other})[4 : 4 + strays]
    folder = shuffled(tmp_path / "series", [*first_pass(hu, **{keyword: one}), *two], strays)
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(folder, raise_refused=False)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize("place", [0, 5, 11])
def test_a_slice_in_its_place_with_another_value_is_no_stray(tmp_path: Path, hu: NDArray[np.int16], place: int) -> None:
    datasets = first_pass(hu, AcquisitionNumber=1, ConvolutionKernel="B30f")
    datasets[place].AcquisitionNumber, datasets[place].ConvolutionKernel = 2, "B70f"
    scan = open_scan(shuffled(tmp_path / "series", datasets, place))
    assert np.array_equal(hu_of(scan), hu)
    assert scan.flags == ()
