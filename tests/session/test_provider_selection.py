from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from builders import MakeModel, tiny_proto
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.modelfile.model_file import load_model_file, parse_model_file
from ct3d_edge.providers.availability import get_provider
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest, find_expected_provider, get_device_and_versions
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.session import node_placement


def test_what_auto_comes_to_is_known_before_a_session_is_opened(make_model: MakeModel) -> None:
    with Runner(load_model_file(make_model()), SessionRequest("auto", build=False)) as runner:
        passed = [name for name, _ in runner.run_report.passed_over]
        assert find_expected_provider("auto") in (*passed, runner.run_report.actual)
    assert find_expected_provider("cpu") == "cpu"


def test_a_provider_that_is_not_there_is_still_the_one_expected() -> None:
    assert find_expected_provider("openvino") == "openvino"


def test_the_cpu_stands_on_no_gpu() -> None:
    gpu, versions = get_device_and_versions("cpu")
    assert gpu is None
    assert dict(versions)["onnxruntime"] == ort.__version__


def test_options_of_a_choice_may_stand_beside_auto(make_model: MakeModel) -> None:
    model, options = load_model_file(make_model()), parse_options("cpu", ("allow_spinning=0",))
    with pytest.raises(UsageError, match="do not belong to provider auto"):
        Runner(model, SessionRequest("auto", options=options))
    with Runner(model, SessionRequest("auto", options=options, tuning_sha256="f" * 64)) as runner:
        if runner.run_report.actual == "cpu":
            assert dict(runner.run_report.options)["allow_spinning"] == "0"
        assert (runner.run_report.tuned, runner.run_report.choice) == (True, "f" * 64)


NO_GPU = "libcuda|nvcuda|no NVIDIA driver|built without it|finds no GPU"


@pytest.fixture(scope="module")
def without_gpu() -> None:
    try:
        import ctypes

        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("this machine has an NVIDIA driver; the test is about machines without one")


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("hint", [True, False])
def test_a_provider_that_cannot_work_here_stops_everything(make_model: MakeModel, provider: str, hint: bool) -> None:
    with pytest.raises(ProviderError, match=NO_GPU) as caught:
        Runner(load_model_file(make_model()), SessionRequest(provider, hint=hint))  # type: ignore[arg-type]
    message = str(caught.value)
    assert f"Provider {provider} cannot do the work here" in message
    assert "This onnxruntime has: " in message
    assert ("`allow_fallback=True`" in message) == hint


@pytest.mark.usefixtures("without_gpu")
def test_a_permitted_fallback_is_on_the_run_report(make_model: MakeModel) -> None:
    with Runner(load_model_file(make_model()), SessionRequest("tensorrt", allow_fallback=True)) as runner:
        run_report = runner.run_report
    assert (run_report.requested, run_report.actual) == ("tensorrt", "cpu")
    assert [name for name, _ in run_report.passed_over] == ["tensorrt", "cuda"]


@pytest.mark.usefixtures("without_gpu")
def test_auto_says_why_it_did_not_take_the_better_ones(make_model: MakeModel) -> None:
    with Runner(load_model_file(make_model())) as runner:
        run_report = runner.run_report
    assert (run_report.requested, run_report.actual) == ("auto", "cpu")
    assert [name for name, _ in run_report.passed_over] == ["tensorrt", "cuda"]
    assert all(reason for _, reason in run_report.passed_over)


def test_an_unknown_provider_is_wrong_usage(make_model: MakeModel) -> None:
    with pytest.raises(UsageError, match="Choose one of: auto, tensorrt, nv-tensorrt-rtx, cuda, openvino, cpu"):
        Runner(load_model_file(make_model()), SessionRequest("npu"))  # type: ignore[arg-type]


@dataclass
class Placed:
    """What ONNX Runtime would report of one subgraph."""

    ep_name: str
    names: list[str]

    def get_nodes(self) -> list[Any]:
        return [SimpleNamespace(name=name, op_type="Conv") for name in self.names]


@dataclass
class Session:
    """A session as it would look on hardware that this machine may not have."""

    listed: list[str]
    placed: list[Placed]

    def get_providers(self) -> list[str]:
        return self.listed

    def get_provider_graph_assignment_info(self) -> list[Placed]:
        return self.placed


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_every_node_on_the_provider_is_accepted() -> None:
    session = Session([CUDA, CPU], [Placed(CUDA, ["a", "b"]), Placed(CUDA, ["c"])])
    assert node_placement(session, get_provider("cuda"), allow_fallback=False) == {"cuda": 3}


@pytest.mark.parametrize("allow_fallback", [False, True])
@pytest.mark.parametrize(
    ("session", "message"),
    [
        (Session([CPU], [Placed(CPU, ["a"])]), "dropped it without a message"),
        (Session([CUDA, CPU], [Placed(CPU, ["a"])]), "took none of the model's nodes"),
    ],
)
def test_a_provider_that_does_nothing_is_never_accepted(session: Session, message: str, allow_fallback: bool) -> None:
    with pytest.raises(ProviderError, match=message):
        node_placement(session, get_provider("cuda"), allow_fallback=allow_fallback)


def test_a_provider_that_does_a_part_is_accepted_only_with_permission() -> None:
    session = Session([CUDA, CPU], [Placed(CUDA, ["a", "b"]), Placed(CPU, ["mean"])])
    with pytest.raises(ProviderError, match=r"leaves 1 nodes to another provider \(mean\)"):
        node_placement(session, get_provider("cuda"), allow_fallback=False)
    assert node_placement(session, get_provider("cuda"), allow_fallback=True) == {"cuda": 2, "cpu": 1}


def test_onnxruntimes_own_fallback_is_off(make_model: MakeModel) -> None:
    """It would rebuild the session on the CPU in the middle of a run, and say so on standard output only."""
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        assert runner._session is not None
        assert runner._session._enable_fallback is False


def test_a_graph_that_fails_only_when_it_runs_is_a_provider_error(contract: Contract) -> None:
    proto = tiny_proto(contract)
    (sizes,) = [tensor for tensor in proto.graph.initializer if tensor.name == "with_channel"]
    sizes.CopyFrom(numpy_helper.from_array(np.array([-1, 7, *contract.shape]), "with_channel"))
    with (
        Runner(parse_model_file(Path("model.onnx"), proto.SerializeToString()), SessionRequest("cpu")) as runner,
        pytest.raises(ProviderError, match="ONNX Runtime failed on cpu while running"),
    ):
        runner.infer(np.zeros((1, *contract.shape), np.float32))


def test_options_of_the_provider_reach_the_session_and_the_run_report(make_model: MakeModel) -> None:
    options = parse_options("cpu", ("intra_op_num_threads=1", "allow_spinning=0", "enable_cpu_mem_arena=0"))
    with Runner(load_model_file(make_model()), SessionRequest("cpu", options=options)) as runner:
        assert runner._session is not None
        settings = runner._session.get_session_options()
        run_report = runner.run_report
    assert settings.intra_op_num_threads == run_report.threads == 1
    assert settings.enable_cpu_mem_arena is False
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert dict(run_report.options)["allow_spinning"] == "0"


@pytest.mark.parametrize(("requested", "owner"), [("auto", "cpu"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_options_of_another_provider_are_wrong_usage(make_model: MakeModel, requested: str, owner: str) -> None:
    with pytest.raises(UsageError, match=f"do not belong to provider {requested}"):
        Runner(load_model_file(make_model()), SessionRequest(requested, options=parse_options(owner)))  # type: ignore[arg-type]


@pytest.mark.parametrize("numbers", [{"threads": 0}, {"threads": -1}, {"batch": 0}])
def test_numbers_below_one_are_wrong_usage(make_model: MakeModel, numbers: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"must be at least 1, found (0|-1)"):
        Runner(load_model_file(make_model()), SessionRequest("cpu", **numbers))  # type: ignore[arg-type]
