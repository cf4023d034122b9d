"""Scans inside zip archives and compressed files: the volume, name and hash of the files beside them."""

import gzip
import itertools
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import MakeScan
from numpy.typing import NDArray
from published import entry, noise, zip_of

from ct3d_edge.errors import UnreadableScanError, UsageError
from ct3d_edge.scan.discovery import discover_scans, find_scans, list_scans
from ct3d_edge.scan.loader import FileStamp, content_sha256, list_scan_files, open_scan, patient_identifiers
from ct3d_edge.scan.volume import Scan

made = pytest.importorskip("dicom_files")

HU = NDArray[np.int16]


def hu_of(scan: Scan) -> NDArray[np.float32]:
    planes = [plane.T * scan.slope + scan.intercept for plane in scan.planes(range(scan.shape[2]))]
    return np.stack(planes, axis=-1)


def zip_folder(folder: Path) -> Path:
    """Replace a folder by an archive of its content."""
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    shutil.rmtree(folder)
    return archive


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_scans(folder)]


def test_a_zipped_series_is_the_series(tmp_path: Path, hu: HU) -> None:
    folder = made.write_series(tmp_path / "study", hu)
    hashed, scan = content_sha256(folder), open_scan(folder)
    archive = zip_folder(folder)
    assert find_scans(tmp_path) == find_scans(archive) == [archive]
    zipped = open_scan(archive)
    assert np.array_equal(hu_of(zipped), hu)
    assert np.array_equal(zipped.affine, scan.affine)  # type: ignore[arg-type]
    assert zipped.flags == scan.flags
    assert content_sha256(archive) == hashed
    assert patient_identifiers(archive) == (made.PATIENT_NAME, made.PATIENT_ID)


@pytest.mark.parametrize("syntax", [made.JPEGLSLossless, made.JPEG2000Lossless, made.RLELossless])
def test_compressed_pixels_are_decoded_in_an_archive(tmp_path: Path, hu: HU, syntax: str) -> None:
    folder = made.write_series(tmp_path / "study", hu)
    for file in folder.iterdir():
        made.compress(file, syntax)
    assert np.array_equal(hu_of(open_scan(zip_folder(folder))), hu)


@pytest.mark.parametrize("deflated", [False, True])
def test_an_enhanced_file_in_an_archive_is_read(tmp_path: Path, hu: HU, deflated: bool) -> None:
    syntax = "1.2.840.10008.1.2.1.99" if deflated else "1.2.840.10008.1.2.1"
    made.save(made.enhanced_dataset(hu), tmp_path / "study" / "IM1", made.UID(syntax))
    assert np.array_equal(hu_of(open_scan(zip_folder(tmp_path / "study"))), hu)


def test_series_in_an_archive_have_the_names_that_they_would_have_in_a_folder(tmp_path: Path, hu: HU) -> None:
    study = tmp_path / "study"
    made.write_series(study / "DICOM" / "A", hu, "1.2.3")
    made.write_series(study / "DICOM" / "B", hu, "1.2.4")
    made.write_series(study / "DICOM" / "B", hu, "1.2.5", name="other{:03}")
    archive = zip_folder(study)
    assert names(tmp_path) == ["study.zip/DICOM/A", "study.zip/DICOM/B/1.2.4", "study.zip/DICOM/B/1.2.5"]
    for scan in find_scans(tmp_path):
        assert np.array_equal(hu_of(open_scan(scan)), hu)
    assert find_scans(archive / "DICOM" / "A") == [archive / "DICOM" / "A"]
    assert find_scans(archive, series="1.2.5") == [archive / "DICOM" / "B" / "1.2.5"]
    assert find_scans(archive / "DICOM" / "A" / "000.dcm") == [archive / "DICOM" / "A"]
    assert list(list_scans(tmp_path).scans) == find_scans(tmp_path)


def test_a_series_in_several_folders_of_an_archive_is_one_scan(tmp_path: Path, hu: HU) -> None:
    datasets = made.series_datasets(hu)
    for number, dataset in enumerate(datasets):
        made.save(dataset, tmp_path / "study" / f"part{number % 2}" / f"{number}.dcm")
    archive = zip_folder(tmp_path / "study")
    assert find_scans(archive) == [archive / "1.2.3"]
    assert np.array_equal(hu_of(open_scan(archive / "1.2.3")), hu)
    assert len(list_scan_files(archive / "1.2.3")) == len(datasets)


def _link_folder(folder: Path) -> Path:
    """A link in place of a folder, which moves out of the one that is searched."""
    outside = folder.rename(folder.parent.parent / f"linked {folder.name}")
    folder.symlink_to(outside, target_is_directory=True)
    return folder


PLACES: tuple[Callable[[Path], Path], ...] = (lambda folder: folder, zip_folder, _link_folder)


@pytest.mark.parametrize("places", list(itertools.product(PLACES, repeat=2)))
def test_parts_of_a_series_in_folders_archives_and_links_are_one_scan(
    tmp_path: Path, hu: HU, places: tuple[Callable[[Path], Path], Callable[[Path], Path]]
) -> None:
    root = tmp_path / "in"
    for number, dataset in enumerate(made.series_datasets(hu)):
        made.save(dataset, root / f"part{number % 2}" / f"{number}.dcm")
    for number, place in enumerate(places):
        place(root / f"part{number}")
    assert find_scans(root) == [root / "1.2.3"]
    assert np.array_equal(hu_of(open_scan(root / "1.2.3")), hu)
    assert len(list_scan_files(root / "1.2.3")) == hu.shape[2]


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_nifti_file_in_an_archive_is_read(
    tmp_path: Path, make_scan: MakeScan, hu: HU, name: str, method: int
) -> None:
    scan = make_scan(name)
    hashed = content_sha256(scan)
    with zipfile.ZipFile(tmp_path / "a.ZIP", "w", method) as archive:
        archive.write(scan, f"x/{name}")
    scan.unlink()
    assert names(tmp_path) == [f"a.ZIP/x/{name}"]
    (found,) = find_scans(tmp_path)
    assert np.array_equal(hu_of(open_scan(found)), hu)
    assert content_sha256(found) == hashed


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "1.dcm"])
def test_a_member_that_was_damaged_is_reported(tmp_path: Path, make_scan: MakeScan, hu: HU, name: str) -> None:
    """The bytes of the voxels differ from the checksum in the archive."""
    scan = make_scan(name) if ".nii" in name else made.save(made.enhanced_dataset(hu), tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(scan, name)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[len(scan.read_bytes()) // 2] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnreadableScanError) as caught:
        hu_of(open_scan(tmp_path / "a.zip" / name))
    assert caught.value.code in ("bad_archive", "corrupt_gzip", "bad_checksum")


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a path that leads elsewhere": lambda: zip_of([("../a.dcm", b"x")]),
    "an absolute path": lambda: zip_of([("/etc/a.dcm", b"x")]),
    "a link": lambda: zip_of([(entry("a.dcm", mode=stat.S_IFLNK | 0o777), b"/etc/passwd")]),
    "a bomb": lambda: zip_of([("a.dcm", bytes(20 << 20))]),
    "two members of one name": lambda: zip_of([("a.dcm", b"x"), ("a.dcm", b"y")]),
    "a file that is a folder": lambda: zip_of([("a", b"x"), ("a/b.dcm", b"y")]),
    "no archive": lambda: b"<html>not found</html>",
    "cut off": lambda: zip_of([("a.dcm", noise(500))])[:-30],
    "empty": lambda: b"",
}


@pytest.mark.parametrize("write", HOSTILE.values(), ids=HOSTILE)
def test_an_archive_that_cannot_be_trusted_is_a_scan_without_a_result(
    tmp_path: Path, make_scan: MakeScan, write: Callable[[], bytes]
) -> None:
    make_scan("scan.nii")
    (tmp_path / "study.zip").write_bytes(write())
    assert names(tmp_path) == ["scan.nii", "study.zip"]
    with pytest.raises(UnreadableScanError) as caught:
        open_scan(tmp_path / "study.zip")
    assert caught.value.code == "bad_archive"
    assert "study.zip" in str(caught.value)
    assert find_scans(tmp_path / "study.zip") == [tmp_path / "study.zip"]


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    data = bytearray(zip_of([("DICOM/1.dcm", noise(50))]))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "study.zip").write_bytes(data)
    with pytest.raises(UnreadableScanError, match=r"study\.zip .*DICOM/1\.dcm is encrypted"):
        open_scan(tmp_path / "study.zip")


def test_a_slice_that_shows_nothing_but_air_is_no_bomb(tmp_path: Path) -> None:
    hu = np.full((512, 512, 4), -1000, np.int16)
    archive = zip_folder(made.write_series(tmp_path / "study", hu))
    assert np.array_equal(hu_of(open_scan(archive)), hu)


@pytest.mark.parametrize("name", ["study.zip/../a.nii", "study.zip/none.nii", "none.zip/a.nii"])
def test_no_path_leads_out_of_an_archive(tmp_path: Path, make_scan: MakeScan, name: str) -> None:
    make_scan("a.nii")
    (tmp_path / "study.zip").write_bytes(zip_of([("b.nii", b"x")]))
    with pytest.raises(UsageError, match="no file or folder"):
        find_scans(tmp_path / name)
    with pytest.raises(UnreadableScanError):
        open_scan(tmp_path / name)


def test_nothing_in_an_archive_is_passed_over_without_a_line(tmp_path: Path, make_scan: MakeScan) -> None:
    scan = make_scan("scan.nii")
    (tmp_path / "docs.zip").write_bytes(zip_of([("manual.pdf", b"x")]))
    inner = zip_of([("scan.nii", scan.read_bytes())])
    (tmp_path / "nested.zip").write_bytes(zip_of([("inner.zip", inner), ("more.tar.gz", b"x"), ("x.txt", b"")]))
    search = discover_scans(tmp_path)
    assert search.scans == (scan,)
    assert [(each.path.relative_to(tmp_path).as_posix(), each.reason) for each in search.passed_over] == [
        ("nested.zip/inner.zip", "an archive inside an archive; unpack the outer one first"),
        ("nested.zip/more.tar.gz", "an archive; unpack it first"),
        ("docs.zip", "an archive without scans"),
    ]
    scan.unlink()
    with pytest.raises(UsageError, match="what is there was not taken:") as none:
        find_scans(tmp_path)
    assert "series" not in str(none.value), "no UID names an archive"


def test_an_archive_that_is_replaced_is_read_anew(tmp_path: Path, hu: HU) -> None:
    archive = zip_folder(made.write_series(tmp_path / "study", hu))
    before, stamp = content_sha256(archive), FileStamp.of(archive)
    assert np.array_equal(hu_of(open_scan(archive)), hu)
    other = (hu + 7).astype(np.int16)
    zip_folder(made.write_series(tmp_path / "study", other))
    assert np.array_equal(hu_of(open_scan(archive)), other)
    assert content_sha256(archive) != before
    assert FileStamp.of(archive) != stamp
    assert stamp.complete


def test_a_folder_with_the_name_of_an_archive_is_a_folder(tmp_path: Path, make_scan: MakeScan, hu: HU) -> None:
    make_scan("a.nii", folder=tmp_path / "study.zip")
    (scan,) = find_scans(tmp_path)
    assert np.array_equal(hu_of(open_scan(scan)), hu)


@pytest.mark.parametrize("name", ["{:03}.dcm.gz", "{:03}.IMA.gz", "IM{:03}.gz", "{:03}.dcm"])
def test_compressed_dicom_files_are_read(tmp_path: Path, hu: HU, name: str) -> None:
    folder = made.write_series(tmp_path / "study", hu, name="{:03}")
    for number, file in enumerate(sorted(folder.iterdir())):
        (folder / name.format(number)).write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    if not name.endswith(".gz"):
        with pytest.raises(UnreadableScanError):
            open_scan(folder)
        return
    assert find_scans(tmp_path) == [folder]
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    assert np.array_equal(hu_of(open_scan(zip_folder(folder))), hu)


@pytest.mark.parametrize(("cut", "code"), [(-9, "truncated"), (None, "bad_checksum")])
def test_a_compressed_dicom_file_that_is_damaged_is_reported(
    tmp_path: Path, hu: HU, cut: int | None, code: str
) -> None:
    file = made.save(made.enhanced_dataset(hu), tmp_path / "1.dcm")
    data = bytearray(gzip.compress(file.read_bytes()))
    data[-8] ^= 0xFF
    (tmp_path / "1.dcm.gz").write_bytes(data[:cut])
    file.unlink()
    with pytest.raises(UnreadableScanError) as caught:
        open_scan(tmp_path / "1.dcm.gz")
    assert caught.value.code == code


def test_the_index_of_a_medium_is_reported_and_its_folder_searched(tmp_path: Path, hu: HU) -> None:
    made.write_series(tmp_path / "IMAGES", hu)
    index = made.ct_dataset(hu[:, :, 0].T, 0, "1.2.3")
    index.SOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("Rows", "Columns", "PixelData"):
        del index[keyword]
    made.save(index, tmp_path / "DICOMDIR")
    for given in (tmp_path, tmp_path / "DICOMDIR"):
        search = discover_scans(given)
        assert search.scans == (tmp_path / "IMAGES",)
        assert [(each.path, each.code) for each in search.passed_over] == [(tmp_path / "DICOMDIR", "dicomdir")]
    with pytest.raises(UnreadableScanError, match="name its folder"):
        open_scan(tmp_path / "DICOMDIR")


@pytest.mark.parametrize("into", ["", "study"])
def test_an_archive_that_was_unpacked_beside_it_counts_once(tmp_path: Path, hu: HU, into: str) -> None:
    archive = zip_folder(made.write_series(tmp_path / "study" / "DICOM", hu).parent)
    shutil.unpack_archive(archive, tmp_path / into)
    folder = tmp_path / into / "DICOM"
    for paths in ([tmp_path], sorted(tmp_path.iterdir()), [archive, *folder.iterdir()], [tmp_path, archive]):
        found = discover_scans(paths)
        assert found.scans == (folder,)
        assert [(each.path, each.code) for each in found.passed_over] == [(archive, "archive")]
    assert find_scans(archive) == [archive / "DICOM"]


def test_files_beside_an_archive_are_read_once_to_compare_them(
    tmp_path: Path, make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = make_scan("scan.nii")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(scan, "scan.nii")
    assert find_scans(tmp_path) == [scan]
    monkeypatch.setattr("ct3d_edge.scan.archive.isal_zlib", None)
    assert find_scans(tmp_path) == [scan]
    monkeypatch.undo()
    scan.write_bytes(scan.read_bytes()[:-1] + b"x")
    assert find_scans(tmp_path) == [scan, tmp_path / "a.zip" / "scan.nii"]


def test_other_data_behind_a_gzip_file_in_an_archive_give_a_flag(tmp_path: Path, make_scan: MakeScan, hu: HU) -> None:
    scan = make_scan("scan.nii.gz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan.nii.gz", scan.read_bytes() + b"something else")
    found = open_scan(tmp_path / "a.zip" / "scan.nii.gz")
    assert np.array_equal(hu_of(found), hu)
    assert [flag.code for flag in found.reading_flags] == ["trailing_bytes"]


def test_an_archive_with_other_content_than_the_folder_beside_it_is_a_scan_too(tmp_path: Path, hu: HU) -> None:
    """Of the same names and sizes: the slices of another patient."""
    archive = zip_folder(made.write_series(tmp_path / "study", hu, "1.2.3"))
    made.write_series(tmp_path / "study", hu, "1.2.4")
    found = discover_scans([tmp_path])
    assert found.scans == (tmp_path / "study", archive)
    assert found.passed_over == ()
