"""NVIDIA's libraries are stood in for by small ones with the same functions; see ``make_library``."""

from pathlib import Path

import onnxruntime as ort
import pytest

from ct3d_edge.errors import ProviderError
from ct3d_edge.extras import pip_install_command
from ct3d_edge.providers import nvidia
from ct3d_edge.providers.availability import find_provider_issue, get_provider, require_available
from ct3d_edge.providers.nvidia import Gpu, find_gpu, gpu_count

from .conftest import MakeLibrary

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA Made Up 9", length); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 8 : 6; return 0; }
int cuDriverGetVersion(int *version) { *version = CUDA; return 0; }
"""

NVML = """
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "580.65.06", length); return 0; }
"""


@pytest.fixture
def made_up(make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with two GPUs, NVML, cuDNN, TensorRT and the CUDA runtime."""
    use_driver(make_library, monkeypatch)
    sources = {
        "NVML": NVML,
        "CUDNN": "unsigned long cudnnGetVersion(void) { return 91400; }",
        "NVINFER": "int getInferLibVersion(void) { return 101303; }",
    }
    for name, source in sources.items():
        monkeypatch.setattr(nvidia, name, str(make_library(f"lib{name}.so", source)))
    runtime = make_library("libmadeup.so.13", "int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }")
    monkeypatch.setattr(nvidia, "CUDART", str(runtime).replace(".13", ".{}"))


def use_driver(
    make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch, *, init: int = 0, count: int = 2, cuda: int = 13000
) -> None:
    values = {"INIT": init, "COUNT": count, "CUDA": cuda}
    source = "".join(f"#define {name} {value}\n" for name, value in values.items()) + DRIVER
    monkeypatch.setattr(nvidia, "CUDA_DRIVER", str(make_library(f"libdriver{init}{count}{cuda}.so", source)))


@pytest.mark.usefixtures("made_up")
def test_a_gpu_is_known_by_name_capability_and_driver() -> None:
    assert gpu_count() == 2
    assert find_gpu(1) == Gpu("NVIDIA Made Up 9", (8, 6), "580.65.06", "13.0")


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("device_id", [-1, 2])
def test_a_gpu_that_is_not_there_is_none(device_id: int) -> None:
    assert find_gpu(device_id) is None


@pytest.mark.usefixtures("made_up")
def test_versions_are_written_as_people_write_them() -> None:
    assert nvidia.cudnn_version() == "9.14.0"
    assert nvidia.tensorrt_version() == "10.13.3"
    assert nvidia.cudart_version("13") == "13.0"


def test_what_is_not_installed_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_DRIVER", "NVML", "CUDNN", "NVINFER", "CUDART"):
        monkeypatch.setattr(nvidia, name, str(tmp_path / f"{name}.so"))
    assert find_gpu(0) is None
    assert nvidia.driver_version() is None
    assert nvidia.cudnn_version() is None
    assert nvidia.tensorrt_version() is None
    assert nvidia.cudart_version("13") is None


@pytest.mark.skipif("CUDAExecutionProvider" not in ort.get_available_providers(), reason="a build without CUDA")
@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        ({"init": 100}, r"finds no GPU \(CUDA error 100\)"),
        ({"count": 0}, "finds no GPU; see nvidia-smi"),
        ({"cuda": 11080}, r"supports CUDA 11.8, this onnxruntime needs 1\d\.\d+; update the driver"),
    ],
)
def test_a_driver_that_will_not_do_is_told(
    make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch, driver: dict[str, int], reason: str
) -> None:
    use_driver(make_library, monkeypatch, **driver)
    with pytest.raises(ProviderError, match=reason):
        require_available(get_provider("cuda"))


@pytest.mark.skipif("CUDAExecutionProvider" not in ort.get_available_providers(), reason="a build without CUDA")
def test_with_a_driver_the_missing_library_is_named(
    make_library: MakeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_driver(make_library, monkeypatch)
    monkeypatch.setattr(nvidia, "CUDNN", str(tmp_path / "libcudnn.so.9"))
    obstacle = find_provider_issue(get_provider("cuda"))
    assert obstacle is not None
    assert "a library is missing" in obstacle.reason
    assert obstacle.missing
    assert obstacle.remedy == pip_install_command("cuda")
