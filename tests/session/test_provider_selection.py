import onnxruntime as ort
import pytest
from builders import MakeModel

from ct3d_edge.errors import UsageError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest, find_expected_provider, get_device_and_versions
from ct3d_edge.session.runner import Runner


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
