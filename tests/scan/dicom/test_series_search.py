"""Which scans a folder of DICOM files holds, what they are called, and that the name opens them again."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.scan.dicom import instance
from ct3d_edge.scan.dicom.series_membership import have_equal_instances
from ct3d_edge.scan.discovery import discover_scans, find_scans
from ct3d_edge.scan.loader import list_scan_files, open_scan

from .conftest import setting
from .test_series import change_all, hu_of

LOCALIZER = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def write_report(path: Path) -> None:
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "1.2", "SR"
    made.save(report, path)


def test_a_folder_of_one_series_is_one_scan_named_after_the_folder(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    folder = made.write_series(tmp_path / "a" / "chest", hu)
    assert find_scans([tmp_path]) == find_scans([folder]) == [folder]
    assert find_scans(sorted(folder.iterdir())) == [folder], "files of a series are one scan"


def test_several_series_are_several_scans(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    for number in (1, 2):
        made.write_series(tmp_path, hu + number, f"1.2.{number}", name=f"{{}}-{number}.dcm")
    scans = find_scans([tmp_path])
    assert scans == [tmp_path / "1.2.1", tmp_path / "1.2.2"]
    for number, scan in enumerate(scans, 1):
        assert np.array_equal(hu_of(open_scan(scan)), hu + number)
        assert find_scans([scan]) == [scan], "a name on record is found again"
        assert len(list_scan_files(scan)) == 12
    assert find_scans([tmp_path / "3-2.dcm"]) == [tmp_path / "1.2.2"]
    with pytest.raises(ScanError, match=r"holds 2 series; name one: 1\.2\.1, 1\.2\.2") as caught:
        open_scan(tmp_path)
    assert caught.value.code == "multiple_series"


def test_opening_one_of_many_series_does_not_parse_the_others(
    tmp_path: Path, hu: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        made.write_series(tmp_path, hu, f"1.2.{number}", name=f"{{}}-{number}.dcm")
    scans = find_scans([tmp_path])
    parsed: list[Path] = []
    parse = instance._parse

    def spy(stream: BinaryIO, path: Path) -> Dataset:
        parsed.append(path)
        return parse(stream, path)

    monkeypatch.setattr(instance, "_parse", spy)
    open_scan(scans[1])
    assert parsed == [], "headers are remembered"
    instance._read_cached.cache_clear()  # as if there had been more files than are remembered
    open_scan(scans[1])
    assert sorted(parsed) == sorted(tmp_path.glob("*-1.dcm"))


def test_one_series_can_be_picked(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    for number in (1, 2):
        made.write_series(tmp_path, hu, f"1.2.{number}", name=f"{{}}-{number}.dcm")
    assert find_scans([tmp_path], series="1.2.2") == [tmp_path / "1.2.2"]
    assert find_scans(sorted(tmp_path.iterdir()), series="1.2.2") == [tmp_path / "1.2.2"]
    with pytest.raises(UsageError, match=r"No DICOM series 1\.2\.3"):
        find_scans([tmp_path], series="1.2.3")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (LOCALIZER, "localizer"),
        (setting(Modality="MR"), "not_ct"),
        (setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "not_ct"),
        (setting(ImageType=["DERIVED", "SECONDARY", "MPR"]), "derived"),
    ],
    ids=["localizer", "another modality", "screenshots", "reformatted"],
)
def test_what_is_no_scan_to_judge_is_passed_over_with_a_reason(
    tmp_path: Path, hu: NDArray[np.int16], change: object, code: str
) -> None:
    other = made.write_series(tmp_path / "other", hu, "1.2.9")
    change_all(other, change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`series=UID` takes one of these anyway"):
        find_scans([tmp_path])
    chest = made.write_series(tmp_path / "chest", hu)
    search = discover_scans([tmp_path])
    assert search.scans == (chest,)
    assert [(passed.path, passed.code) for passed in search.passed_over] == [(other / "1.2.9", code)]
    assert find_scans([tmp_path], series="1.2.9") == [other / "1.2.9"]


def test_a_localizer_beside_a_series_does_not_change_its_name(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    scout = made.write_series(tmp_path / "scout", hu[:, :, :1], "1.2.9", name="scout.dcm")
    change_all(scout, LOCALIZER)
    made.write_series(scout, hu)
    search = discover_scans([tmp_path])
    assert search.scans == (scout,)
    assert [passed.code for passed in search.passed_over] == ["localizer"]
    assert np.array_equal(hu_of(open_scan(scout)), hu)


def test_files_without_an_image_are_passed_over(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    folder = made.write_series(tmp_path, hu)
    write_report(folder / "DICOMDIR")
    write_report(folder / "report")
    (folder / "notes.txt").write_text("not DICOM")
    search = discover_scans([tmp_path])
    assert search.scans == (folder,)
    assert [(passed.code, passed.reason) for passed in search.passed_over] == [
        ("dicomdir", "the index of a DICOM medium; the files in its folder and below were searched"),
        ("no_pixel_data", "1 DICOM file without an image"),
    ]


def test_nifti_and_dicom_live_side_by_side(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    folder = made.write_series(tmp_path / "b", hu)
    (folder / "scan.nii.gz").touch()
    (tmp_path / "a.nii").touch()
    assert find_scans([tmp_path]) == [tmp_path / "a.nii", folder / "scan.nii.gz", folder]


def test_a_series_spread_over_folders_is_one_scan(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    whole = made.write_series(tmp_path / "disc", hu)
    for number, path in enumerate(sorted(whole.iterdir())):
        target = whole / f"part {number // 5}" / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    assert find_scans([tmp_path]) == [whole / "1.2.3"]
    assert np.array_equal(hu_of(open_scan(whole / "1.2.3")), hu)


def test_copies_of_a_series_are_scans_of_their_own(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    first = made.write_series(tmp_path / "a", hu)
    second = tmp_path / "b"
    shutil.copytree(first, second)
    found = discover_scans([tmp_path])
    assert list(found.scans) == [first, second]
    assert [flag.code for path in (first, second) for flag in found.flags[str(path)]] == ["repeated_acquisition"] * 2
    scan = open_scan(tmp_path / "1.2.3")
    assert np.array_equal(hu_of(scan), hu)
    assert [(flag.code, flag.value) for flag in scan.flags] == [("duplicate_slices", 12)]


@pytest.mark.parametrize("parts", [[(0, 6), (5, 12)], [(0, 12), (3, 9)], [(3, 9), (0, 12)], [(0, 6), (6, 12), (0, 12)]])
def test_folders_that_share_some_files_are_one_scan(
    tmp_path: Path, hu: NDArray[np.int16], parts: list[tuple[int, int]]
) -> None:
    datasets = made.series_datasets(hu)
    for number, (start, stop) in enumerate(parts):
        made.write_datasets(tmp_path / f"{number}", datasets[start:stop])
    assert find_scans([tmp_path]) == [tmp_path / "1.2.3"]
    scan = open_scan(tmp_path / "1.2.3")
    assert np.array_equal(hu_of(scan), hu)
    assert [(f.code, f.value) for f in scan.flags] == [("duplicate_slices", sum(b - a for a, b in parts) - 12)]


@pytest.mark.parametrize("number", [None, 2])
@pytest.mark.parametrize("shared", [slice(0, 12), slice(5, 6), slice(11, 12)])
def test_one_instance_uid_with_other_pixels_in_another_folder_is_a_conflict(
    tmp_path: Path, hu: NDArray[np.int16], shared: slice, number: int | None
) -> None:
    made.write_series(tmp_path / "a", hu)
    changed = made.series_datasets(hu[::-1])
    for dataset in changed:
        dataset.AcquisitionNumber = number
    made.write_datasets(tmp_path / "b", changed[shared])
    assert find_scans([tmp_path]) == [tmp_path / "1.2.3"]
    with pytest.raises(ScanError, match="have one SOPInstanceUID") as caught:
        open_scan(tmp_path / "1.2.3")
    assert caught.value.code == "conflicting_instances"
    assert ("a/000.dcm, b/000.dcm have" in str(caught.value)) == (shared == slice(11, 12))


def test_files_without_instance_uids_are_never_copies(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    images = [instance.read_instance(path) for path in made.write_series(tmp_path, hu).iterdir()]
    assert have_equal_instances([images, images])
    unnamed = [replace(image, instance="") for image in images]
    assert not have_equal_instances([unnamed, unnamed])


def test_a_file_that_takes_the_place_of_another_is_read_again(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    """Of the same name, size and time, as rsync and tar leave them."""
    folder = made.write_series(tmp_path / "a", hu)
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    for new in sorted(made.write_datasets(tmp_path / "b", made.series_datasets(hu)[::-1]).iterdir()):
        old = folder / new.name
        assert old.stat().st_size == new.stat().st_size
        os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
        new.replace(old)
    assert np.array_equal(hu_of(open_scan(folder)), hu)


def test_files_without_a_series_uid_are_a_series(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    change_all(made.write_series(tmp_path, hu), setting(SeriesInstanceUID=None))
    assert np.array_equal(hu_of(open_scan(find_scans([tmp_path])[0])), hu)
    made.write_series(tmp_path, hu, "1.2.4", name="more {}.dcm")
    scans = find_scans([tmp_path])
    assert scans == [tmp_path / "unnamed", tmp_path / "1.2.4"]
    assert open_scan(scans[0]).shape == hu.shape


def test_damaged_files_alone_are_reported_each(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + b"nonsense" * 9)
    scans = find_scans([tmp_path])
    assert scans == [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    for scan in scans:
        with pytest.raises(ScanError, match=scan.name):
            open_scan(scan)


def test_patients_sharing_a_folder_stay_apart(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    made.write_series(tmp_path, hu, "1.2.3", name="a{}")
    other = made.write_series(tmp_path / "other", hu + 1, "1.2.4", name="b{}")
    change_all(other, setting(PatientID="another", PatientName="Roe^Richard"))
    for path in other.iterdir():
        path.rename(tmp_path / path.name)
    first, second = find_scans([tmp_path])
    assert np.array_equal(hu_of(open_scan(first)) + 1, hu_of(open_scan(second)))
    assert open_scan(first).flags == open_scan(second).flags == ()


def test_without_pydicom_a_folder_is_a_scan_that_says_what_is_missing(
    tmp_path: Path, hu: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.write_series(tmp_path / "chest", hu)
    (tmp_path / "scan.nii").touch()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert find_scans([tmp_path]) == [tmp_path / "scan.nii", folder]
    with pytest.raises(ScanError, match=r"pip install .pydicom"):
        open_scan(folder)


def test_hidden_files_and_links_that_lead_nowhere_do_not_count(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    folder = made.write_series(tmp_path / "chest", hu)
    shutil.copy(folder / "003.dcm", folder / "._003.dcm")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    assert find_scans([tmp_path]) == [folder]
    assert open_scan(folder).flags == ()
