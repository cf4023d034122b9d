"""The OpenVINO plugin on a device that it lists, and what is decided before a session where it lists others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import MakeModel
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ProviderError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.options import OpenvinoOptions, parse_options
from ct3d_edge.providers.plugins import OPENVINO
from ct3d_edge.session.provider_selection import SessionRequest, make_run_report, select_and_open
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.session import select_plugin_device
from ct3d_edge.system.machine import count_usable_cores


@pytest.fixture
def volumes(contract: Contract) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((2, *contract.shape), np.float32)


def busy_threads(work: Callable[[], object]) -> int:
    """Threads of this process whose processor time grew while ``work`` was done until some did."""
    before = _ticks()
    for _ in range(200):
        work()
        grown = [thread for thread, ticks in _ticks().items() if ticks > before.get(thread, 0) + 4]
        if grown and sum(_ticks().values()) > sum(before.values()) + 60:
            return len(grown)
    raise AssertionError("the work took no processor time")


def _ticks() -> dict[str, int]:
    """User and system time of each thread, proc(5)."""
    found = {}
    for path in Path("/proc/self/task").glob("*/stat"):
        entries = path.read_text().rpartition(")")[2].split()
        found[path.parent.name] = int(entries[11]) + int(entries[12])
    return found


def test_threads_reach_openvino_and_the_run_report_says_so(openvino: None, make_model: MakeModel) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs the processor time of threads, from Linux' /proc")
    model = load_model_file(make_model(shape=(128, 128, 64)))
    volume = np.zeros((1, 128, 128, 64), np.float32)
    with Runner(model, SessionRequest("openvino", threads=1)) as runner:
        assert runner.run_report.threads == 1
        assert dict(runner.run_report.options)["inference_num_threads"] == "1"
        assert busy_threads(lambda: runner.infer(volume)) == 1


@pytest.mark.parametrize(
    ("threads", "texts", "expected"),
    [
        (None, (), count_usable_cores()),
        (1, (), 1),
        (count_usable_cores(), ("inference_num_threads=1",), 1),
        (count_usable_cores() + 7, (), count_usable_cores()),
        (None, (f"inference_num_threads={count_usable_cores() + 7}",), count_usable_cores()),
    ],
)
def test_the_run_report_holds_the_number_of_threads_that_openvino_keeps_to(
    openvino: None, make_model: MakeModel, threads: int | None, texts: tuple[str, ...], expected: int
) -> None:
    with Runner(
        load_model_file(make_model()),
        SessionRequest("openvino", threads=threads, options=parse_options("openvino", texts)),
    ) as r:
        assert r.run_report.threads == expected
        assert dict(r.run_report.options)["inference_num_threads"] == str(expected)


@pytest.mark.parametrize("device", ["GPU", "NPU"])
def test_other_devices_than_the_cpu_take_no_number_of_threads(device: str) -> None:
    options = parse_options("openvino", (f"device={device}",))
    assert not options.supports_threads
    assert options.with_threads(1) == options


def test_the_run_report_says_bf16_where_openvino_computes_in_it(
    openvino: None, make_model: MakeModel, volumes: NDArray[np.float32]
) -> None:
    answers = {}
    for name, told in (("f32", "fp32"), ("bf16", "bf16")):
        options = parse_options("openvino", (f"inference_precision={name}",))
        try:
            with Runner(load_model_file(make_model()), SessionRequest("openvino", options=options)) as runner:
                assert runner.run_report.to_dict()["precision"]["arithmetic"] == told
                assert ("in bf16" in runner.run_report.describe()) == (told == "bf16")
                answers[name] = runner.infer(volumes)
        except ProviderError as error:
            pytest.skip(f"this processor computes in no {name}: {error}")
    assert (answers["f32"] != answers["bf16"]).any()


@pytest.mark.parametrize(("stored", "told"), [("fp32", "bf16"), ("fp16", "bf16"), ("int8", "int8 and bf16")])
def test_the_precision_of_the_provider_counts_for_what_is_not_quantized(stored: str, told: str) -> None:
    assert OpenvinoOptions(inference_precision="bf16").arithmetic(stored) == told
    assert OpenvinoOptions().arithmetic("int8") == "int8"
    assert parse_options("cpu").arithmetic(stored) == stored


def test_a_batch_can_be_laid_where_openvino_runs(
    openvino: None, make_model: MakeModel, volumes: NDArray[np.float32]
) -> None:
    with Runner(load_model_file(make_model()), SessionRequest("openvino")) as runner:
        found = runner.bind_on_device(volumes)().numpy()
        assert found[:, 0] == pytest.approx(runner.infer(volumes)[:, -1], abs=1e-6)


def listed(kind: str, capabilities: str) -> SimpleNamespace:
    """A device as a plugin lists it."""
    metadata = {"OPTIMIZATION_CAPABILITIES": capabilities} if capabilities else {}
    return SimpleNamespace(device=SimpleNamespace(type=f"OrtHardwareDeviceType.{kind}"), ep_metadata=metadata)


def test_a_precision_that_the_device_does_not_list_is_refused_with_those_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = [listed("CPU", "FP32 INT8"), listed("NPU", "FP16 INT8"), listed("GPU", "")]
    monkeypatch.setattr("ct3d_edge.session.session.list_plugin_devices", lambda _: devices)
    assert select_plugin_device(OPENVINO, OpenvinoOptions()) is devices[0]
    with pytest.raises(ProviderError, match=r"CPU computes in f32, not in bf16; set inference_precision=f32"):
        select_plugin_device(OPENVINO, OpenvinoOptions(inference_precision="bf16"))
    with pytest.raises(ProviderError, match=r"NPU computes in f16, not in f32; set inference_precision=f16"):
        select_plugin_device(OPENVINO, OpenvinoOptions(device="NPU"))
    assert select_plugin_device(OPENVINO, OpenvinoOptions(device="GPU", inference_precision="f16")) is devices[2]


def test_a_run_report_says_where_the_number_of_threads_is_the_providers_own(make_model: MakeModel) -> None:
    model = load_model_file(make_model())
    opened = select_and_open(model, SessionRequest("cpu"))
    on_gpu = replace(
        opened, config=replace(opened.config, options=OpenvinoOptions(device="GPU")), nodes=(("openvino", 5),)
    )
    run_report = make_run_report(model, SessionRequest("openvino"), on_gpu, None)
    assert run_report.to_dict()["threads"] is None
    assert run_report.describe().endswith("threads chosen by the provider")
