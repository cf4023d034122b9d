"""No GPU is here: a driver that is absent is the real one's, figures come from a stand-in for its library."""

from types import SimpleNamespace

import pytest

from ct3d_edge.benchmark.workload import AVERAGED_SCANS, GPU_ENERGY, GPU_FIRST, GPU_SESSION, compute_gpu_costs
from ct3d_edge.latency.system_monitor import GpuReading, read_gpus

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py comes with the extra cuda")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with two GPUs, named by their memory in use."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda place: 100 + place)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: SimpleNamespace(used=gpu))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda gpu: 1000 * gpu)


def test_without_a_driver_nothing_is_told() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert read_gpus() is None
    else:
        pynvml.nvmlShutdown()
        assert read_gpus() is not None


@pytest.mark.usefixtures("driver")
def test_gpus_are_added_up() -> None:
    assert read_gpus() == GpuReading(201, 201.0)


@pytest.mark.usefixtures("driver")
def test_a_gpu_without_an_energy_counter_still_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise pynvml.NVMLError_NotSupported

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    assert read_gpus() == GpuReading(201, None)


def test_costs_are_differences_and_none_where_nothing_tells() -> None:
    one, two, three = GpuReading(10, 1.0), GpuReading(30, 2.0), GpuReading(35, 12.0)
    assert compute_gpu_costs((one, two, three), (two, three)) == {
        GPU_SESSION: 20,
        GPU_FIRST: 5,
        GPU_ENERGY: 10 / AVERAGED_SCANS,
    }
    assert set(compute_gpu_costs((None, None, None), (None, None)).values()) == {None}
    assert compute_gpu_costs((one, two, three), (GpuReading(0, None), three))[GPU_ENERGY] is None
