import os
import sys
from pathlib import Path

import pytest

from ct3d_edge.doctor.smoke_test_process import ProviderStatus, check_provider
from ct3d_edge.extras import pip_install_command


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_the_cpu_is_found_working() -> None:
    trial = check_provider("cpu")
    assert (trial.compiled_in, trial.loadable, trial.runs) == (True, True, True)
    assert trial.missing == ()
    assert dict(trial.versions)["onnxruntime"]


def test_a_crash_is_an_answer() -> None:
    trial = check_provider("cuda", script("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert not trial.runs
    assert trial.detail == "trying it ended with the signal SIGSEGV"
    assert trial.remedy == pip_install_command("cuda")


def test_a_hang_is_stopped() -> None:
    trial = check_provider("tensorrt", script("import time; time.sleep(60)"), patience=0.5)
    assert trial.detail == "trying it took more than 0.5 seconds and was stopped"


@pytest.mark.parametrize("said", ["", "[]", "{}", "1", '{"name": "cpu"}', "not JSON"])
def test_an_answer_that_is_none_is_told(said: str) -> None:
    trial = check_provider("cpu", script(f"import sys; print({said!r}); print('last words', file=sys.stderr)"))
    assert not trial.runs
    assert trial.detail == "trying it failed: last words"


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    trial = check_provider("cpu", [str(tmp_path / "python")])
    assert trial.detail == "the process that tries it could not be started (No such file or directory)"


@pytest.mark.parametrize("module", ["raise ImportError('libonnxruntime.so.1: cannot open shared object file')", ""])
def test_an_onnxruntime_that_cannot_be_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """As two distributions leave it: half of one, half of the other."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    trial = check_provider("cpu")
    assert not trial.runs
    assert trial.detail.startswith("trying it failed: ")
    if module:
        assert "libonnxruntime.so.1" in trial.detail
        assert trial.remedy == pip_install_command("", "--force-reinstall")


TOLD = {
    "name": "cuda",
    "compiled_in": True,
    "loadable": False,
    "runs": False,
    "detail": "a library is missing",
    "missing": ["libcudnn.so.9"],
    "remedy": 'pip install ".[cuda]"',
    "difference": None,
    "milliseconds": None,
    "links": [
        {"name": "libcublas.so.13", "path": None, "others": ["/opt/lib/libcublas.so.12"]},
        {"name": "libcudart.so.13", "path": "/opt/lib/libcudart.so.13", "others": []},
    ],
    "versions": None,
}


def test_every_missing_library_and_every_wrong_version_is_named() -> None:
    trial = ProviderStatus.from_smoke_test({**TOLD})
    assert trial.missing == ("libcudnn.so.9", "libcublas.so.13")
    assert trial.mismatches == ("links libcublas.so.13, found /opt/lib/libcublas.so.12",)


def test_a_provider_that_loads_misses_nothing() -> None:
    """The linker's search alone does not find libraries that were loaded from Python packages before."""
    trial = ProviderStatus.from_smoke_test({**TOLD, "loadable": True, "missing": []})
    assert (trial.missing, trial.mismatches) == ((), ())
