import json
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto

from ct3d_edge.doctor.smoke_test import (
    TOLERANCE,
    SmokeTestResult,
    build_test_network,
    expected_output,
    make_test_input,
    run_smoke_test,
)


def test_the_cpu_runs_the_tiny_network() -> None:
    found = run_smoke_test("cpu")
    assert (found.compiled_in, found.loadable, found.runs) == (True, True, True)
    assert found.difference is not None
    assert found.difference < 1e-5
    assert ("onnxruntime", ort.__version__) in found.versions


def test_the_tiny_network_is_three_dimensional_and_its_answers_tell_mistakes_apart() -> None:
    model = ModelProto.FromString(build_test_network())
    (kernel,) = [tensor for tensor in model.graph.initializer if tensor.name == "kernel"]
    assert len(kernel.dims) == 5
    volume = make_test_input()
    assert np.abs(expected_output(volume) - expected_output(volume[:, :, ::-1])).max() > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_without_hardware_names_what_is_missing(name: str) -> None:
    found = run_smoke_test(name)  # type: ignore[arg-type]
    if found.runs:
        pytest.skip("this machine has the hardware")
    assert found.detail
    assert found.difference is None


def test_a_wrong_answer_is_not_taken_for_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ct3d_edge.doctor.smoke_test.expected_output", lambda volume: expected_output(volume) + 2 * TOLERANCE
    )
    found = run_smoke_test("cpu")
    assert (found.loadable, found.runs) == (True, False)
    assert found.difference == pytest.approx(2 * TOLERANCE, abs=1e-5)


def test_the_command_prints_json_and_nothing_else() -> None:
    command = [sys.executable, "-m", "ct3d_edge.doctor.smoke_test", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["runs"] is True
    assert set(told) == set(SmokeTestResult.__dataclass_fields__)
