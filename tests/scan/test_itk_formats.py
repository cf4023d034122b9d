"""MetaImage and NRRD files as SimpleITK writes and reads them, and files that are damaged or hostile."""

import shutil
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # as its documentation does
from numpy.typing import NDArray

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import content_sha256, list_scan_files, open_scan
from ct3d_edge.scan.volume import Scan

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

TURNED = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
"""Columns are directions of the array axes, none along an axis of the body."""

PRONE = (-1.0, 0, 0, 0, -1, 0, 0, 0, 1)


def make_image(dtype: Any = np.int16, direction: tuple[float, ...] = TURNED) -> sitk.Image:
    """(7, 6, 5) voxels, every one different."""
    image = sitk.GetImageFromArray(np.arange(-100, 110).reshape(5, 6, 7).astype(dtype))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-120.5, 33.25, 410.0))
    image.SetDirection(direction)
    return image


def write(path: Path, image: sitk.Image | None = None, *, compressed: bool = False) -> Path:
    sitk.WriteImage(make_image() if image is None else image, str(path), compressed)
    return path


def stored(scan: Scan) -> NDArray[Any]:
    return np.stack([plane.T.copy() for plane in scan.planes(range(scan.shape[2]))], axis=-1)


def affine_of(image: sitk.Image) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def assert_read_like_simpleitk(path: Path) -> Scan:
    scan, image = open_scan(path), sitk.ReadImage(str(path))
    expected = sitk.GetArrayFromImage(image).T
    np.testing.assert_array_equal(stored(scan), expected)
    assert scan.dtype.newbyteorder("=") == expected.dtype
    assert scan.affine is not None
    np.testing.assert_allclose(scan.affine, affine_of(image), atol=1e-5)
    return scan


def edit(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert data.count(old) == 1, data[:600]
    path.write_bytes(data.replace(old, new))
    return path


def error_of(path: Path) -> ScanError:
    with pytest.raises(ScanError) as caught:
        stored(open_scan(path))
    assert path.name in str(caught.value) or path.stem in str(caught.value)
    return caught.value


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("direction", [TURNED, PRONE], ids=["turned", "prone"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_voxels_and_positions_are_those_of_simpleitk(
    tmp_path: Path, suffix: str, direction: tuple[float, ...], compressed: bool
) -> None:
    path = write(tmp_path / f"scan{suffix}", make_image(direction=direction), compressed=compressed)
    scan = assert_read_like_simpleitk(path)
    assert scan.flags == ()
    as_nifti = open_scan(write(tmp_path / "scan.nii.gz", make_image(direction=direction)))
    np.testing.assert_allclose(scan.affine, as_nifti.affine, atol=1e-4)  # type: ignore[arg-type]
    np.testing.assert_array_equal(stored(scan), stored(as_nifti))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_every_real_type_is_read(tmp_path: Path, suffix: str, dtype: Any) -> None:
    assert_read_like_simpleitk(write(tmp_path / f"scan{suffix}", make_image(dtype)))


def test_big_endian_numbers_are_read(tmp_path: Path) -> None:
    for suffix, (old, new) in {
        ".mha": (b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True"),
        ".nrrd": (b"endian: little", b"endian: big"),
    }.items():
        assert_read_like_simpleitk(edit(write(tmp_path / f"scan{suffix}"), old, new))


@pytest.mark.parametrize("space", ["right-anterior-superior", "LAS", "LPS", "left-posterior-superior", "RAS"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_every_space_of_nrrd_is_read(tmp_path: Path, space: str, encoding: str) -> None:
    header = {
        "space": space,
        "space directions": [[0.7, 0, 0], [0, -0.8, 0], [0, 0, 2.5]],
        "space origin": [1, 2, 3],
        "encoding": encoding,
    }
    nrrd.write(str(tmp_path / "scan.nrrd"), np.arange(210, dtype=np.int16).reshape(7, 6, 5), header)
    assert_read_like_simpleitk(tmp_path / "scan.nrrd")


@pytest.mark.parametrize("skip", [-1, 0, 13])
def test_bytes_before_detached_voxels_are_skipped(tmp_path: Path, skip: int) -> None:
    for suffix, raw, (old, new) in (
        (".mhd", "scan.raw", (b"ElementDataFile", f"HeaderSize = {skip}\nElementDataFile".encode())),
        (".nhdr", "scan.raw", (b"data file", f"byte skip: {skip}\ndata file".encode())),
    ):
        path = edit(write(tmp_path / f"scan{suffix}"), old, new)
        (tmp_path / raw).write_bytes(bytes(13 if skip else 0) + (tmp_path / raw).read_bytes())
        assert_read_like_simpleitk(path)


def test_an_axis_of_length_one_is_dropped_and_more_volumes_are_refused(tmp_path: Path) -> None:
    data = np.arange(420, dtype=np.int16)
    for count, shape in ((1, (7, 6, 5, 1)), (2, (7, 6, 5, 2))):
        image = sitk.GetImageFromArray(data[: 210 * count].reshape(shape[::-1]), isVector=False)
        path = write(tmp_path / f"{count}.mha", image)
        directions = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [np.nan] * 3]
        header = {"space": "LPS", "space directions": directions, "kinds": ["domain"] * 3 + ["list"]}
        nrrd.write(str(tmp_path / f"{count}.nrrd"), data[: 210 * count].reshape(shape, order="F"), header)
        for each in (path, tmp_path / f"{count}.nrrd"):
            if count == 2:
                assert error_of(each).code == "multiple_volumes"
            else:
                np.testing.assert_array_equal(stored(open_scan(each)), data[:210].reshape((7, 6, 5), order="F"))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_colours_and_single_images_are_refused(tmp_path: Path, suffix: str) -> None:
    colours = sitk.GetImageFromArray(np.zeros((5, 6, 7, 3), np.uint8), isVector=True)
    assert error_of(write(tmp_path / f"colours{suffix}", colours)).code == "unsupported_dtype"
    assert error_of(write(tmp_path / f"flat{suffix}", make_image()[:, :, 2])).code == "two_dimensional"
    assert error_of(write(tmp_path / f"slice{suffix}", make_image()[:, :, 2:3])).code == "single_slice"


def test_another_modality_is_refused(tmp_path: Path) -> None:
    path = edit(write(tmp_path / "a.mha"), b"ElementDataFile", b"Modality = MET_MOD_MR\nElementDataFile")
    assert error_of(path).code == "not_ct"
    image = make_image()
    image.SetMetaData("modality", "PT")
    assert error_of(write(tmp_path / "a.nrrd", image)).code == "not_ct"


def test_a_header_without_directions_has_no_orientation(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), np.zeros((7, 6, 5), np.int16), {"spacings": [1, 1, 2]})
    assert open_scan(tmp_path / "a.nrrd").affine is None
    path = write(tmp_path / "a.mha")
    lines = [line for line in path.read_bytes().split(b"\n", 12) if not line.startswith(b"TransformMatrix")]
    path.write_bytes(b"\n".join(lines))
    assert open_scan(path).affine is None


def test_a_unit_of_length_is_converted(tmp_path: Path) -> None:
    path = edit(write(tmp_path / "a.nrrd"), b"encoding:", b'space units: "cm" "cm" "cm"\nencoding:')
    scan = open_scan(path)
    np.testing.assert_allclose(scan.spacing, (7, 8, 25))  # type: ignore[arg-type]
    assert [flag.code for flag in scan.flags] == ["length_unit"]


@pytest.mark.parametrize(
    "directions", ["(0,0,0) (0,1,0) (0,0,1)", "(1,0,0) (1,0,0) (0,0,1)", "(inf,0,0) (0,1,0) (0,0,1)"]
)
def test_directions_without_a_volume_are_ignored_with_a_flag(tmp_path: Path, directions: str) -> None:
    path = write(tmp_path / "a.nrrd", make_image(direction=(1.0, 0, 0, 0, 1, 0, 0, 0, 1)))
    line = next(line for line in path.read_bytes().split(b"\n") if line.startswith(b"space directions"))
    scan = open_scan(edit(path, line, f"space directions: {directions}".encode()), raise_refused=False)
    assert scan.affine is None
    assert [flag.code for flag in scan.flags] == ["bad_affine"]


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "../other.raw", "..\\other.raw", "C:\\a.raw", "LIST", "s%03d.raw 1 9 1"]
)
def test_voxels_outside_the_folder_or_in_several_files_are_not_read(tmp_path: Path, named: str) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(420))
    folder = tmp_path / "scans"
    folder.mkdir()
    for suffix, old in ((".mhd", b"ElementDataFile = scan.raw"), (".nhdr", b"data file: scan.raw")):
        path = edit(write(folder / f"scan{suffix}"), old, old.replace(b"scan.raw", named.encode()))
        assert error_of(path).code == "bad_header"
        assert list_scan_files(path) == (path,)
        assert content_sha256(path)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_and_its_voxels_are_the_files_of_a_scan(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"scan{suffix}")
    raw = path.with_name("scan.raw")
    assert list_scan_files(path) == (path, raw)
    assert find_scans(tmp_path) == [path]
    before = content_sha256(path)
    raw.write_bytes(raw.read_bytes()[::-1])
    assert content_sha256(path) != before
    raw.unlink()
    assert error_of(path).code == "not_found"


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("voxels", ["scan.img", "voxels.img", "scan.zraw", "scan.IMG"])
def test_a_header_and_its_voxels_are_listed_once(tmp_path: Path, suffix: str, voxels: str) -> None:
    path = edit(write(tmp_path / f"scan{suffix}"), b"scan.raw", voxels.encode())
    path.with_name("scan.raw").rename(tmp_path / voxels)
    assert find_scans(tmp_path) == [path]
    assert find_scans([path, tmp_path]) == [path]
    if voxels.startswith("scan.i"):
        assert find_scans(tmp_path / voxels) == [path]
    archive = Path(shutil.make_archive(str(tmp_path.with_suffix(".all")), "zip", tmp_path))
    assert find_scans(archive) == [archive / path.name]


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_in_a_folder_below_their_header_are_no_scan_of_their_own(tmp_path: Path, suffix: str) -> None:
    path = edit(write(tmp_path / f"scan{suffix}"), b"scan.raw", b"below/scan.img")
    (tmp_path / "below").mkdir()
    path.with_name("scan.raw").rename(tmp_path / "below" / "scan.img")
    assert find_scans(tmp_path) == [path]
    archive = Path(shutil.make_archive(str(tmp_path.with_suffix(".all")), "zip", tmp_path))
    assert find_scans(archive) == [archive / path.name]


def test_a_pair_of_nifti_beside_a_header_stays_a_scan(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd")
    write(tmp_path / "b.hdr")
    assert find_scans(tmp_path) == [tmp_path / "a.mhd", tmp_path / "b.hdr"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_in_an_archive_are_read(tmp_path: Path, suffix: str, compressed: bool) -> None:
    (tmp_path / "study").mkdir()
    write(tmp_path / "study" / f"scan{suffix}", compressed=compressed)
    archive = Path(shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "study"))
    shutil.rmtree(tmp_path / "study")
    assert find_scans(tmp_path) == [archive / f"scan{suffix}"]
    scan = open_scan(archive / f"scan{suffix}")
    np.testing.assert_array_equal(stored(scan), np.arange(-100, 110).reshape(5, 6, 7).T)


def test_masks_of_slicer_are_not_scans(tmp_path: Path) -> None:
    write(tmp_path / "a.nrrd")
    write(tmp_path / "a.seg.nrrd")
    write(tmp_path / "a_mask.mha")
    assert find_scans(tmp_path) == [tmp_path / "a.nrrd"]
