import json
import os
from pathlib import Path

import pytest

from ct3d_edge.extras import pip_install_command
from ct3d_edge.providers.names import PROVIDERS

from .conftest import Run

pytestmark = pytest.mark.slow  # five processes, each of which imports ONNX Runtime


def test_doctor_tries_every_provider_and_says_what_would_help(run: Run) -> None:
    outcome = run("doctor")
    assert outcome.code == 0
    assert all(name in outcome.out for name in PROVIDERS)
    assert "auto takes: " in outcome.out
    assert "onnxruntime: onnxruntime" in outcome.out


@pytest.mark.parametrize("as_json", [False, True])
def test_doctor_survives_a_broken_onnxruntime(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('half of it is gone')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    outcome = run("doctor", *(["--json"] if as_json else []))
    assert outcome.code == 3
    if as_json:
        told = json.loads(outcome.out)
        assert (told["working"], told["automatic"]) == ([], [])
        assert {entry["remedy"] for entry in told["providers"]} == {pip_install_command("", "--force-reinstall")}
    else:
        assert "cpu: trying it failed: ImportError: half of it is gone" in outcome.out
        assert "auto takes: nothing, no provider works here" in outcome.out
