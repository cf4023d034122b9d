"""Passes woven into one series: each becomes a scan of its own, with the attribute that separates it."""

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair, each_value
from pydicom.dataset import Dataset

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ScanError
from ct3d_edge.quality_control.checker import QualityChecker, QualityReport
from ct3d_edge.scan.discovery import discover_scans, find_scans
from ct3d_edge.scan.loader import content_sha256, list_scan_files, open_scan

from .test_one_volume import shuffled
from .test_series import hu_of
from .test_series_membership import PASSES, first_pass, other_pass

NUMBERED = [
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "KVP",
    "SliceThickness",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
]


def shown_by(scans: list[Path]) -> list[NDArray[np.float64]]:
    """The volumes of scans, whose only flag is that they are one of several passes."""
    opened = [open_scan(scan) for scan in scans]
    for scan in opened:
        assert [(flag.code, flag.severity) for flag in scan.flags] == [("pass_split", "warn")]
    return [hu_of(scan) for scan in opened]


@pytest.mark.parametrize(("first", "offset", "keyword"), each_value([1, 2], [0, 0.00375, 0.1, 0.5, 0.9], NUMBERED))
def test_each_pass_is_a_scan_that_its_name_opens(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float, first: int
) -> None:
    datasets = [*first_pass(hu, **{keyword: first}), *other_pass(hu, offset, **{keyword: 3 - first})]
    folder = shuffled(tmp_path / "series", datasets, first)
    scans = find_scans([tmp_path])
    assert scans == [folder / f"1.2.3#{keyword}-{value}" for value in (1, 2)]
    shown = shown_by(scans)[:: 3 - 2 * first]
    assert np.array_equal(shown[0], hu)
    assert np.array_equal(shown[1], hu[:, ::-1])
    assert find_scans([scans[1]]) == [scans[1]], "a name on record is found again"
    assert [len(list_scan_files(scan)) for scan in scans] == [12, 12]
    with pytest.raises(ScanError, match=f"2 scans that differ in {keyword}; name one: 1.2.3#{keyword}-1, ") as caught:
        open_scan(folder / "1.2.3")
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize(("keyword", "offset"), each_pair(PASSES, [0.3, 0.5]))
def test_values_that_are_no_numbers_are_not_shown(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float
) -> None:
    one, two = PASSES[keyword]
    folder = shuffled(
        tmp_path / "series", [*first_pass(hu, **{keyword: one}), *other_pass(hu, offset, **{keyword: two})], 1
    )
    scans = find_scans([folder], series="1.2.3")
    for scan, volume in zip(scans, shown_by(scans), strict=True):
        assert scan.name.startswith(f"1.2.3#{keyword}-")
        assert "iodine" not in scan.name
        assert "1010" not in scan.name
        assert np.array_equal(volume, hu) or np.array_equal(volume, hu[:, ::-1])


@pytest.mark.parametrize("pick", ["1.2.3", "1.2.3#AcquisitionNumber-2"])
def test_passes_are_picked_by_their_name(tmp_path: Path, hu: NDArray[np.int16], pick: str) -> None:
    folder = made.write_datasets(
        tmp_path / "series", [*first_pass(hu, AcquisitionNumber=1), *other_pass(hu, 0.5, AcquisitionNumber=2)]
    )
    scans = [folder / "1.2.3#AcquisitionNumber-1", folder / "1.2.3#AcquisitionNumber-2"]
    assert find_scans([folder], series=pick) == (scans if pick == "1.2.3" else scans[1:])
    assert find_scans([folder / "003.dcm"]) == scans[:1], "a file stands for its pass"
    assert np.array_equal(hu_of(open_scan(folder / "020.dcm")), hu[:, ::-1])
    with pytest.raises(ScanError, match=r"no pass AcquisitionNumber-3; there is: .*-1, .*-2"):
        open_scan(folder / "1.2.3#AcquisitionNumber-3")


@pytest.mark.parametrize(
    ("kept", "code"), [(set(range(12)) - {4, 5}, "missing_slices"), ({3}, "single_slice"), ({3, 4}, "")]
)
def test_a_pass_that_is_not_complete_is_refused_by_itself(
    tmp_path: Path, hu: NDArray[np.int16], kept: set[int], code: str
) -> None:
    two = other_pass(hu, 0.3, AcquisitionNumber=2)
    if len(kept) < 3:  # a third pass, of which next to nothing arrived
        two += [
            dataset
            for number, dataset in enumerate(other_pass(hu, 0.6, AcquisitionNumber=3, StudyInstanceUID="1.2.3.0"))
            if number in kept
        ]
        for dataset in two[12:]:
            dataset.SOPInstanceUID += ".9"
    else:
        two = [two[number] for number in kept]
    folder = shuffled(tmp_path / "series", [*first_pass(hu, AcquisitionNumber=1), *two], 5)
    scans = find_scans([folder])
    assert np.array_equal(hu_of(open_scan(scans[0])), hu)
    last = scans[-1]
    if code:
        with pytest.raises(ScanError) as caught:
            open_scan(last)
        assert caught.value.code == code
    report = report_of(last)
    assert report.status == "refused"


def report_of(scan: Path) -> QualityReport:
    return QualityChecker(Contract(shape=(16, 12, 8))).check(scan)


@pytest.mark.parametrize("seed", range(3))
def test_a_pass_that_repeats_one_slice_of_another_is_a_scan(tmp_path: Path, hu: NDArray[np.int16], seed: int) -> None:
    """Two table positions whose last and first slice lie in one place and differ: which one is right nobody knows."""
    upper = other_pass(hu, 11, AcquisitionNumber=2)
    folder = shuffled(tmp_path / "series", [*first_pass(hu, AcquisitionNumber=1), *upper], seed)
    shown = shown_by(find_scans([folder]))
    assert np.array_equal(shown[0], hu)
    assert np.array_equal(shown[1], hu[:, ::-1])


def test_three_passes_that_two_attributes_separate(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    datasets = [
        *first_pass(hu, AcquisitionNumber=1, ConvolutionKernel="B30f"),
        *other_pass(hu, 0, AcquisitionNumber=1, ConvolutionKernel="B70f"),
        *other_pass(hu - 1, 0.5, AcquisitionNumber=2, ConvolutionKernel="B30f"),
    ]
    for number, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}"
    folder = shuffled(tmp_path / "series", datasets, 4)
    scans = find_scans([folder])
    assert [scan.name.count(",") for scan in scans] == [1, 1, 0]
    sums = sorted(int(volume.sum()) for volume in shown_by(scans))
    assert sums == sorted([int(hu.sum()), int(hu.sum()), int((hu - 1).sum())])
    assert len({content_sha256(scan) for scan in scans}) == 3


def test_kernels_of_different_matrices_are_passes(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    other = made.series_datasets(hu[:, :18])
    for number, dataset in enumerate(other):
        dataset.SOPInstanceUID, dataset.ConvolutionKernel = f"1.2.3.7.{number + 1}", "B70f"
    folder = shuffled(tmp_path / "series", [*first_pass(hu, ConvolutionKernel="B30f"), *other], 4)
    assert {volume.shape for volume in shown_by(find_scans([folder]))} == {hu.shape, hu[:, :18].shape}


def test_a_projected_pass_is_skipped(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    thin = first_pass(hu, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    folder = shuffled(
        tmp_path / "series", [*thin, *other_pass(hu, 0.5, ImageType=["DERIVED", "PRIMARY", "AXIAL", "MIP"])], 4
    )
    search = discover_scans([folder])
    assert search.scans == (folder,)
    assert [(skipped.code, skipped.path.name[:16]) for skipped in search.passed_over] == [
        ("derived", "1.2.3#ImageType-")
    ]
    assert np.array_equal(shown_by([folder])[0], hu)


PHASES = {
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "NominalPercentageOfRespiratoryPhase": "RespiratorySynchronizationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}


def enhanced_phases(hu: NDArray[np.int16], keyword: str, offset: float) -> Dataset:
    """Two phases in one file, the second ``offset`` slices above; their frames in turn."""
    slices = hu.shape[2]
    woven = np.stack([hu, hu[:, ::-1]], axis=3).reshape(*hu.shape[:2], 2 * slices)
    dataset = made.enhanced_dataset(woven)
    for number, groups in zip(range(2 * slices)[::-1], dataset.PerFrameFunctionalGroupsSequence, strict=True):
        index, phase = divmod(number, 2)
        groups.PlanePositionSequence[0].ImagePositionPatient[2] = (index + phase * offset) * made.STEP
        group = Dataset()
        setattr(group, keyword, f"{phase + 1}" if keyword == "ConvolutionKernel" else phase + 1)
        setattr(groups, PHASES[keyword], [group])
    return dataset


@pytest.mark.parametrize(("keyword", "offset"), each_pair(PHASES, [0, 0.3, 0.5]))
def test_phases_in_one_enhanced_file_are_scans(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float
) -> None:
    path = made.save(enhanced_phases(hu, keyword, offset), tmp_path / "series" / "phases")
    scans = find_scans([tmp_path])
    assert find_scans([path]) == scans
    assert len(scans) == 2
    shown = shown_by(scans)
    assert np.array_equal(shown[0], hu)
    assert np.array_equal(shown[1], hu[:, ::-1])
    assert [list_scan_files(scan) for scan in scans] == [(path,), (path,)]
    assert content_sha256(scans[0]) != content_sha256(scans[1]), "one file, two scans"
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(path)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize("offset", [0, 0.5])
def test_passes_spread_over_folders_are_scans_of_the_common_folder(
    tmp_path: Path, hu: NDArray[np.int16], offset: float
) -> None:
    """As on a disc: hundred files a folder, whatever pass they are of."""
    datasets = [*first_pass(hu, AcquisitionNumber=1), *other_pass(hu, offset, AcquisitionNumber=2)]
    for number, dataset in enumerate(datasets):
        made.save(dataset, tmp_path / "disc" / f"{number // 7}" / f"{number}")
    scans = find_scans([tmp_path])
    assert scans == [tmp_path / "disc" / f"1.2.3#AcquisitionNumber-{value}" for value in (1, 2)]
    shown = shown_by(scans)
    assert np.array_equal(shown[0], hu)
    assert np.array_equal(shown[1], hu[:, ::-1])
