import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from builders import MakeModel

from ct3d_edge.errors import ProviderError
from ct3d_edge.extras import pip_install_command
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.plugins import OPENVINO, TENSORRT_RTX, Plugin, find_plugin_issue, list_plugin_devices
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

ABSENT = Plugin("openvino", "MadeUpExecutionProvider", "ct3d_no_such_plugin", "nothing")


def test_a_plugin_that_is_not_installed_is_named_with_the_command() -> None:
    obstacle = find_plugin_issue(ABSENT)
    assert obstacle is not None
    assert str(obstacle) == f"its package ct3d_no_such_plugin is not installed; {pip_install_command('openvino')}"
    assert obstacle.missing == ("ct3d_no_such_plugin",)


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_a_plugin_whose_library_does_not_load_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    name = f"ct3d_broken_plugin_{'absent' if content is None else 'text'}"
    library = tmp_path / "plugin.so"
    if content is not None:
        library.write_bytes(content)
    (tmp_path / f"{name}.py").write_text(f"def get_library_path():\n    return {str(library)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    obstacle = find_plugin_issue(Plugin("openvino", "X", name, "nothing"))
    assert obstacle is not None
    assert obstacle.reason.startswith("its library cannot be loaded (")
    assert str(library) in obstacle.reason


@pytest.mark.parametrize("plugin", [OPENVINO, TENSORRT_RTX], ids=lambda plugin: plugin.name)
def test_an_installed_plugin_offers_devices_or_says_that_there_are_none(plugin: Plugin) -> None:
    if find_spec(plugin.module) is None:
        pytest.skip(f"{plugin.module} is not installed")
    obstacle = find_plugin_issue(plugin)
    devices = list_plugin_devices(plugin)
    assert (obstacle is None) == bool(devices)
    assert devices == list_plugin_devices(plugin), "registered once, asked often"
    if obstacle:
        assert f"lists no devices: it serves {plugin.supported_devices}, and ONNX Runtime finds here: CPU by" in str(
            obstacle
        )


def test_a_plugin_is_never_taken_without_being_asked_for(make_model: MakeModel) -> None:
    with Runner(load_model_file(make_model()), SessionRequest("auto")) as runner:
        run_report = runner.run_report
    assert {run_report.actual, *(name for name, _ in run_report.passed_over)} <= {"tensorrt", "cuda", "cpu"}


def test_asking_for_a_plugin_that_is_not_there_stops_everything(make_model: MakeModel) -> None:
    if find_spec(TENSORRT_RTX.module) is not None:
        pytest.skip(f"{TENSORRT_RTX.module} is installed")
    with pytest.raises(ProviderError, match=re.escape(pip_install_command("tensorrt-rtx"))):
        Runner(load_model_file(make_model()), SessionRequest("nv-tensorrt-rtx"))
