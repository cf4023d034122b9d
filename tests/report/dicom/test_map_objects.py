"""Grad-CAM maps for the archive, read back by pydicom, by highdicom and by an independent validator."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dicom_files import PATIENT_ID, SPACING, STEP, series_datasets, write_datasets
from dicom_tools import run_tool, validate
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import ParametricMapStorage, SecondaryCaptureImageStorage
from records import ANSWERED

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.gradcam.resample_to_scan import ScanMap
from ct3d_edge.report.dicom.mapped_series import MappedSeries, open_mapped_series
from ct3d_edge.report.dicom.parametric_map import has_same_map, save_parametric_map
from ct3d_edge.report.dicom.secondary_capture import has_same_pictures, picture_path, save_pictures
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.volume import Scan

FRAME_OF_REFERENCE = "1.2.3.9"
PEAK = 3.0


@dataclass(frozen=True)
class Example:
    """A series with its map in memory, and where files go."""

    mapped: MappedSeries
    folder: Path
    datasets: list[Dataset]


def bright_corner(scan: Scan) -> ScanMap:
    """A map that falls evenly from its peak in the first voxel to nothing in the last plane, row and column."""
    falling = [np.linspace(1, 0, size, dtype=np.float32)[:, None] for size in scan.shape]
    return ScanMap(np.full((1, 1, 1), PEAK, np.float32), (falling[0], falling[1], falling[2]), scan.affine)


@pytest.fixture
def make_example(hu: NDArray[np.int16], tmp_path: Path) -> Callable[..., Example]:
    """``make_example(BodyPartExamined="CHEST")``: a series whose files have these elements."""

    def make(**elements: object) -> Example:
        datasets = series_datasets(hu)
        for dataset in datasets:
            for keyword, value in {"FrameOfReferenceUID": FRAME_OF_REFERENCE, **elements}.items():
                setattr(dataset, keyword, value)
        scan = write_datasets(tmp_path / "scan", datasets)
        record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan))
        return Example(open_mapped_series(record, bright_corner, "abnormal", "chest"), tmp_path, datasets)

    return make


@pytest.fixture
def example(make_example: Callable[..., Example]) -> Example:
    return make_example(BodyPartExamined="CHEST")


def test_a_picture_of_each_slice_is_filed_beside_the_series(example: Example) -> None:
    paths = save_pictures(example.mapped, example.folder / "chest")
    pictures = [dcmread(path) for path in paths]
    assert [path.name for path in paths][:2] == ["chest_sc_001.dcm", "chest_sc_002.dcm"]
    assert len(pictures) == len(example.datasets)
    assert {picture.SOPClassUID for picture in pictures} == {SecondaryCaptureImageStorage}
    assert len({picture.SOPInstanceUID for picture in pictures}) == len(pictures)
    assert {picture.SeriesInstanceUID for picture in pictures}.isdisjoint({"1.2.3"})
    assert {(picture.StudyInstanceUID, picture.PatientID) for picture in pictures} == {("1.2.3.0", PATIENT_ID)}
    shown = [picture.SourceImageSequence[0].ReferencedSOPInstanceUID for picture in pictures]
    assert shown == [dataset.SOPInstanceUID for dataset in example.datasets]
    assert [picture.InstanceNumber for picture in pictures] == list(range(1, len(pictures) + 1))
    assert all(list(picture.PatientOrientation) == ["L", "P"] for picture in pictures)


def test_a_picture_is_the_lung_window_under_the_map_with_a_notice(example: Example) -> None:
    first, *_, last = (dcmread(path) for path in save_pictures(example.mapped, example.folder / "chest"))
    assert min(first.Rows, first.Columns) >= 384, "small slices have no room for the notice"
    assert first.SeriesDescription.startswith("NOT FOR CLINICAL USE")
    assert first.ImageComments.startswith("NOT FOR CLINICAL USE")
    pixels, plain = first.pixel_array.astype(int), last.pixel_array.astype(int)
    top = slice(0, first.Rows // 2)
    assert np.ptp(plain[top], axis=2).max() == 0, "grey where the map is nothing"
    assert (pixels[0, 0, 0] - pixels[0, 0, 2]) > 50, "coloured where it is at its highest"
    below = plain[-60:, : first.Columns // 2]
    assert (below == 255).all(axis=2).sum() > 100, "white letters are burned in at the lower left"


def test_a_parametric_map_holds_the_values_at_their_places(example: Example) -> None:
    path = example.folder / "chest_pm.dcm"
    save_parametric_map(example.mapped, path)
    found = highdicom.imread(path)
    assert (found.SOPClassUID, found.FrameOfReferenceUID) == (ParametricMapStorage, FRAME_OF_REFERENCE)
    frames = values_by_place(path)
    for plane, dataset in zip(example.mapped.overlay.planes(), example.datasets, strict=True):
        np.testing.assert_allclose(frames.pop(tuple(dataset.ImagePositionPatient)), plane, rtol=1e-6)
    assert frames == {}
    np.testing.assert_allclose(found.get_volume().spacing, (STEP, *SPACING))
    (mapping,) = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.LUTLabel == "Grad-CAM"
    assert _references(found) == {each.SOPInstanceUID for each in example.datasets}


def values_by_place(path: Path) -> dict[tuple[float, ...], NDArray[np.float32]]:
    """The frames of a parametric map by the position of their first value."""
    found = dcmread(path)
    items = (frame.PlanePositionSequence[0].ImagePositionPatient for frame in found.PerFrameFunctionalGroupsSequence)
    return {tuple(map(float, place)): values for place, values in zip(items, found.pixel_array, strict=True)}


def _references(found: Dataset) -> set[str]:
    """Instances that an object refers to."""
    items = (item for series in found.ReferencedSeriesSequence for item in series.ReferencedInstanceSequence)
    return {item.ReferencedSOPInstanceUID for item in items}


def test_large_slices_are_averaged_in_blocks_that_lie_where_they_were(
    make_example: Callable[..., Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = make_example()
    monkeypatch.setattr("ct3d_edge.report.dicom.parametric_map.MAX_SIDE", 8)
    save_parametric_map(example.mapped, example.folder / "pm.dcm")
    columns, rows, _ = example.mapped.series.shape
    block = -(-max(columns, rows) // 8)
    first = next(example.mapped.overlay.planes())[:block, :block]
    shift = [(block - 1) / 2 * SPACING[1], (block - 1) / 2 * SPACING[0], 0]
    place = tuple(np.add(example.datasets[0].ImagePositionPatient, shift))
    assert values_by_place(example.folder / "pm.dcm")[place][0, 0] == pytest.approx(first.mean())


@pytest.mark.parametrize("part", [{}, {"BodyPartExamined": "CHEST"}, {"SliceThickness": "8"}])
def test_an_independent_validator_has_no_objection(
    make_example: Callable[..., Example], part: dict[str, object]
) -> None:
    example = make_example(**part)
    picture, *_ = save_pictures(example.mapped, example.folder / "chest")
    save_parametric_map(example.mapped, example.folder / "pm.dcm")
    for path, name in ((picture, "SCImage"), (example.folder / "pm.dcm", "ParametricMap")):
        found, remarks = validate(path)
        assert found == name
        # It is older than QUANTITY (CP 1817), and cannot know that an unnamed part of the body has no side.
        known = ("<QUANTITY>", "only permitted to be empty when actually unknown")
        assert [remark for remark in remarks if not any(text in remark for text in known)] == []


def test_dcmtk_draws_the_picture(example: Example, tmp_path: Path) -> None:
    picture, *_ = save_pictures(example.mapped, example.folder / "chest")
    assert run_tool("dcmdump", picture).returncode == 0
    assert run_tool("dcmj2pnm", "--write-png", picture, tmp_path / "picture.png").returncode == 0
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_same_answer_about_the_same_files_has_the_same_uids(example: Example) -> None:
    record, stem, path = example.mapped.record, example.folder / "chest", example.folder / "pm.dcm"
    assert not has_same_pictures(stem, record, "chest")
    assert not has_same_map(path, record, "chest")
    uids = []
    for _ in range(2):
        files = (*save_pictures(example.mapped, stem), path)
        save_parametric_map(example.mapped, path)
        uids.append([(dcmread(each).SOPInstanceUID, dcmread(each).SeriesInstanceUID) for each in files])
    assert uids[0] == uids[1]
    assert has_same_pictures(stem, record, "chest")
    assert has_same_map(path, record, "chest")
    assert not has_same_pictures(stem, replace(record, actual="cuda"), "chest")
    assert not has_same_map(path, record, "other")


def test_pictures_of_an_earlier_answer_do_not_stay_among_the_new_ones(example: Example) -> None:
    stem = example.folder / "chest"
    picture_path(stem, 60).write_bytes(b"of a longer series")
    other = example.folder / "chest_sc_001-2.dcm"
    other.write_bytes(b"of another scan")
    written = save_pictures(example.mapped, stem)
    assert sorted(example.folder.glob("*.dcm")) == sorted([*written, other])


def test_many_slices_are_chosen_evenly(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.report.dicom.secondary_capture.MAX_PICTURES", 3)
    pictures = [dcmread(path) for path in save_pictures(example.mapped, example.folder / "chest")]
    shown = [picture.SourceImageSequence[0].ReferencedSOPInstanceUID for picture in pictures]
    last = len(example.datasets) - 1
    assert shown == [example.datasets[index].SOPInstanceUID for index in (0, round(last / 2), last)]


def test_a_series_that_was_replaced_gets_nothing(example: Example) -> None:
    (Path(example.mapped.record.scan) / "003.dcm").unlink()
    for save in (save_pictures, save_parametric_map):
        with pytest.raises(UnreadableScanError, match="after it was predicted"):
            save(example.mapped, example.folder / "none")
    assert list(example.folder.glob("none*")) == []


def test_without_a_frame_of_reference_there_is_no_parametric_map(make_example: Callable[..., Example]) -> None:
    example = make_example(FrameOfReferenceUID="")
    with pytest.raises(UnreadableScanError, match="gives no FrameOfReferenceUID") as error:
        save_parametric_map(example.mapped, example.folder / "pm.dcm")
    assert error.value.code == "bad_header"
    assert save_pictures(example.mapped, example.folder / "chest")
