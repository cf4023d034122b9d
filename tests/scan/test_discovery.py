from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.scan.discovery import discover_scans, find_scans, scan_name


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def names_under(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_scans([folder])]


def test_folders_are_searched_recursively_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.nii.gz", "b/1.nii", "a/z/9.nii", "a/3.nii.gz", "c.nii", "B.NII.GZ")
    assert names_under(tmp_path) == ["B.NII.GZ", "c.nii", "a/3.nii.gz", "a/z/9.nii", "b/1.nii", "b/2.nii.gz"]


def test_only_scans_count_in_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "scan.nii", "scan.json", "labels.csv", "nii", "image.dcm", "archive.gz", "scan.nii.bz2")
    assert names_under(tmp_path) == ["scan.nii"]


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "scan.nii", "._scan.nii", ".scan.nii.gz", "deep/.DS_Store")
    assert names_under(tmp_path) == ["scan.nii"]


def test_a_file_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    paths = touch(tmp_path, "scan.txt", ".hidden.nii")
    assert find_scans(paths) == paths


def test_a_pair_is_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "a.hdr", "a.img", "B.HDR", "B.IMG", "c.nii")
    assert names_under(tmp_path) == ["B.HDR", "a.hdr", "c.nii"]


def test_both_files_of_a_pair_named_are_one_scan(tmp_path: Path) -> None:
    header, image = touch(tmp_path, "a.hdr", "a.img")
    assert find_scans([image, header]) == [header]


def test_an_image_without_its_header_is_kept_so_that_it_can_be_reported(tmp_path: Path) -> None:
    (image,) = touch(tmp_path, "a.img")
    assert find_scans([tmp_path]) == [image]


def test_a_scan_named_twice_is_kept_once_where_it_came_first(tmp_path: Path) -> None:
    a, b, c = touch(tmp_path, "a.nii", "b.nii", "c.nii")
    assert find_scans([b, tmp_path, a, b]) == [b, a, c]


def test_linked_folders_are_searched_once_each_and_loops_are_told(tmp_path: Path) -> None:
    place = tmp_path / "in"
    touch(place, "a.nii", "real/b.nii")
    touch(tmp_path, "elsewhere/c.nii", "elsewhere/deep/d.nii")
    (place / "1_loop").symlink_to(place, target_is_directory=True)
    (place / "2_inside").symlink_to(place / "real", target_is_directory=True)
    (place / "3_outside").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (place / "4_again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(place, target_is_directory=True)
    search = discover_scans([place])
    found = [str(path.relative_to(place)) for path in search.scans]
    assert found == ["a.nii", "real/b.nii", "3_outside/c.nii", "3_outside/deep/d.nii"]
    told = [(str(each.path.relative_to(place)), each.code) for each in search.passed_over]
    assert told == [(name, "link") for name in ("1_loop", "2_inside", "4_again", "3_outside/deep/back")]
    assert str(tmp_path / "elsewhere") in search.passed_over[2].reason


@pytest.mark.parametrize(
    ("name", "code"),
    [("study.TAR.GZ", "archive"), ("study.7z", "archive"), ("a.mgz", "other_format"), ("a.mnc", "other_format")],
)  # fmt: skip
def test_what_holds_scans_and_is_not_read_is_told(tmp_path: Path, name: str, code: str) -> None:
    touch(tmp_path, "a.nii", name, "labels.csv")
    search = discover_scans([tmp_path])
    assert [path.name for path in search.scans] == ["a.nii"]
    assert [(each.path.name, each.code) for each in search.passed_over] == [(name, code)]
    (tmp_path / "a.nii").unlink()
    with pytest.raises(UsageError, match=name):
        discover_scans([tmp_path])


def test_links_to_scans_are_scans_and_broken_ones_are_kept_to_be_reported(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.nii", "in/a.nii")
    (tmp_path / "in" / "linked.nii").symlink_to(tmp_path / "elsewhere" / "b.nii")
    (tmp_path / "in" / "broken.nii").symlink_to(tmp_path / "nowhere.nii")
    assert names_under(tmp_path / "in") == ["a.nii", "broken.nii", "linked.nii"]
    assert find_scans([tmp_path / "in" / "broken.nii"]) == [tmp_path / "in" / "broken.nii"]


def test_a_link_to_a_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.nii")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert names_under(tmp_path / "link") == ["a.nii"]


def test_a_missing_path_is_a_usage_error_even_beside_good_ones(tmp_path: Path) -> None:
    (scan,) = touch(tmp_path, "a.nii")
    with pytest.raises(UsageError, match=r"no file or folder .*missing"):
        find_scans([scan, tmp_path / "missing"])


def test_a_folder_without_scans_is_a_usage_error_that_says_what_was_sought(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(UsageError, match=r"No scans under .*\.nii\.gz"):
        find_scans([tmp_path])


def test_an_empty_folder_beside_a_full_one_is_no_error(tmp_path: Path) -> None:
    (scan,) = touch(tmp_path, "full/a.nii")
    (tmp_path / "empty").mkdir()
    assert find_scans(iter([tmp_path / "empty", tmp_path / "full"])) == [scan]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("study_0001.nii.gz", "study_0001"),
        ("study_0001.nii", "study_0001"),
        ("STUDY.NII.GZ", "STUDY"),
        ("study.hdr", "study"),
        ("study.img", "study"),
        ("study.v2.nii.gz", "study.v2"),
        ("study", "study"),
    ],
)
def test_the_name_of_a_scan_has_no_endings(name: str, expected: str) -> None:
    assert scan_name(Path("folder.nii") / name) == expected


def test_a_file_named_relative_and_absolute_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert find_scans([Path("a.nii"), tmp_path / "a.nii", tmp_path]) == [Path("a.nii")]


def test_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "old.nii").write_bytes(b"x")
    (tmp_path / "a.nii").write_bytes(b"x")
    assert find_scans([tmp_path]) == [tmp_path / "a.nii"]
