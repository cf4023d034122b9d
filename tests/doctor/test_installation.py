from pathlib import Path

import pytest

from ct3d_edge.doctor.diagnosis import inspect_onnxruntime
from ct3d_edge.extras import pip_install_command


def install(folder: Path, name: str, version: str, *files: str) -> None:
    """What pip leaves of a distribution that put ``files`` there."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


MODULE = "onnxruntime/__init__.py"


def test_one_build_is_as_it_should_be(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.31.1", MODULE)
    install(tmp_path, "onnxruntime-ep-openvino", "1.8.1", "onnxruntime_ep_openvino/__init__.py")
    install(tmp_path, "onnxruntime-extensions", "0.14", "onnxruntime_extensions/__init__.py")
    found = inspect_onnxruntime([str(tmp_path)])
    assert found.distributions == (("onnxruntime-gpu", "1.31.1"),)
    assert (found.problem, found.remedy) == (None, None)


@pytest.mark.parametrize("second", ["onnxruntime", "onnxruntime-directml", "onnxruntime_openvino", "ort-nightly-gpu"])
def test_two_builds_at_once_are_told_with_the_command_that_keeps_one(tmp_path: Path, second: str) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.31.1", MODULE)
    install(tmp_path, second, "1.30.0", MODULE)
    found = inspect_onnxruntime([str(tmp_path)])
    assert len(found.distributions) == 2
    assert "are installed at once" in str(found.problem)
    assert "onnxruntime-gpu 1.31.1" in str(found.problem)
    assert str(found.remedy).endswith("&& pip install onnxruntime-gpu")
    assert second.replace("_", "-") in str(found.remedy)


def test_no_build_at_all_is_told(tmp_path: Path) -> None:
    found = inspect_onnxruntime([str(tmp_path)])
    assert found.problem == "No distribution of onnxruntime is installed."
    assert found.remedy == pip_install_command()


def test_damaged_metadata_break_nothing(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_bytes(b"\xff\xfe")
    assert inspect_onnxruntime([str(tmp_path)]).distributions == ()


def test_this_environment_has_one_build() -> None:
    assert inspect_onnxruntime().problem is None
