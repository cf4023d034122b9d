import json
from pathlib import Path

import onnxruntime as ort
import pytest
from builders import MakeModel

from ct3d_edge.errors import UsageError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.nvidia import Gpu
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.run_report import RunReport, is_tf32_allowed
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import find_installed_version


@pytest.fixture
def run_report(make_model: MakeModel) -> RunReport:
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        return runner.run_report


def test_a_run_report_of_the_cpu_says_what_there_is_and_null_for_what_is_not(run_report: RunReport) -> None:
    told = run_report.to_dict()
    assert told["schema"] == 1
    assert told["versions"] == {
        "ct3d-edge": find_installed_version("ct3d-edge"),
        "onnxruntime": ort.__version__,
        **dict.fromkeys(("plugin", "cuda", "cudnn", "tensorrt", "driver")),
    }
    assert told["precision"] == {
        "weights": ["float32"],
        "arithmetic": "fp32",
        "input": "float32",
        "output": "float32",
    }
    assert told["options"]["allow_spinning"] == "1", "defaults are on record too"
    assert [told[key] for key in ("gpu", "tf32", "engine", "batch")] == [None] * 4
    assert told["tuned"] is False


def test_a_saved_run_report_is_the_same_data(run_report: RunReport, tmp_path: Path) -> None:
    run_report.save(tmp_path / "receipt.json")
    assert json.loads((tmp_path / "receipt.json").read_text()) == json.loads(json.dumps(run_report.to_dict()))
    with pytest.raises(UsageError, match="Cannot write"):
        run_report.save(tmp_path / "absent" / "receipt.json")


TURING, AMPERE = Gpu("T4", (7, 5), None, None), Gpu("A2000", (8, 6), None, None)


@pytest.mark.parametrize(
    ("name", "options", "gpu", "override", "expected"),
    [
        ("cuda", (), AMPERE, None, False),
        ("cuda", ("use_tf32=1",), AMPERE, None, True),
        ("cuda", ("use_tf32=1",), TURING, None, False),
        ("cuda", ("use_tf32=1",), AMPERE, "0", False),
        ("cuda", (), AMPERE, "1", True),
        ("tensorrt", (), AMPERE, None, True),
        ("tensorrt", (), AMPERE, "0", False),
        ("tensorrt", (), TURING, None, False),
        ("nv-tensorrt-rtx", (), AMPERE, None, None),
        ("openvino", (), None, None, None),
        ("cpu", (), None, "1", None),
    ],
)
def test_tf32_follows_option_gpu_and_environment(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: tuple[str, ...],
    gpu: Gpu | None,
    override: str | None,
    expected: bool | None,
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert is_tf32_allowed(name, parse_options(name, options), gpu) is expected  # type: ignore[arg-type]
