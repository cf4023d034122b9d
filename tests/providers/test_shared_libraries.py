from pathlib import Path

import pytest

from ct3d_edge.providers.shared_libraries import (
    find_first_files,
    find_other_versions,
    linked_libraries,
    nvidia_package_dirs,
)

from .conftest import MakeLibrary


def test_a_library_that_is_there_is_found_where_it_is(
    make_library: MakeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_library("libcublas.so.13", folder=tmp_path / "lib")
    user = make_library("libuser.so", links=[wanted])
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "lib"))
    assert [(link.name, link.path) for link in linked_libraries(user) if "cublas" in link.name] == [
        ("libcublas.so.13", str(wanted))
    ]


def test_a_missing_library_is_named_with_the_version_found_instead(
    make_library: MakeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_library("libct3dtest.so.13", folder=tmp_path / "away")
    user = make_library("libuser.so", links=[wanted])
    wanted.unlink()
    other = make_library("libct3dtest.so.12", folder=tmp_path / "lib")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "lib"))
    (link,) = [link for link in linked_libraries(user) if link.path is None]
    assert (link.name, link.others) == ("libct3dtest.so.13", (str(other),))


def test_libraries_of_nvidias_python_packages_are_found(
    make_library: MakeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site" / "nvidia" / "cu13" / "lib"
    wanted = make_library("libcublas.so.13", folder=folder)
    (tmp_path / "site" / "tensorrt_libs").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert nvidia_package_dirs() == [folder, tmp_path / "site" / "tensorrt_libs"]
    user = make_library("libuser.so", links=[wanted])
    assert str(wanted) in [link.path for link in linked_libraries(user)]


def test_what_is_no_library_links_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not a library")
    assert linked_libraries(tmp_path / "text.so") == []


def test_without_the_systems_programs_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("ct3d_edge.providers.shared_libraries.subprocess.run", _not_there)
    assert linked_libraries(tmp_path / "any.so") == []
    assert find_other_versions("libct3dtest.so.1") == ()


def _not_there(*arguments: object, **settings: object) -> None:
    raise FileNotFoundError("ldd")


def test_the_first_folder_that_has_a_file_wins(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.so").touch()
    (tmp_path / "b" / "y.so").touch()
    found = find_first_files([tmp_path / "a", tmp_path / "b"], ["x.so", "y.so", "z.so"])
    assert list(found) == [tmp_path / "a" / "x.so", tmp_path / "b" / "y.so"]
