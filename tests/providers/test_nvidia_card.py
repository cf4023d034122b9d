import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import MakeModel

from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.nvidia import has_nvidia_gpu
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cards are looked for on Linux alone")


def pci(root: Path, vendor: str, kind: str) -> None:
    device = root / "sys/bus/pci/devices/0000:00:05.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        ("0x10de", "0x030200", True),
        ("0x10de", "0x030000", True),
        ("0x10de", "0x120000", True),
        ("0x10de", "0x040300", False),  # the sound of a card alone
        ("0x8086", "0x030000", False),
    ],
)
def test_a_card_on_the_bus_is_seen_without_its_driver(tmp_path: Path, vendor: str, kind: str, expected: bool) -> None:
    pci(tmp_path, vendor, kind)
    assert has_nvidia_gpu(tmp_path) is expected


@pytest.mark.parametrize("path", ["proc/driver/nvidia", "dev/nvidia0", "dev/nvhost-gpu", "dev/dxg"])
def test_a_driver_and_a_jetson_are_seen(tmp_path: Path, path: str) -> None:
    assert not has_nvidia_gpu(tmp_path)
    (tmp_path / path).mkdir(parents=True)
    assert has_nvidia_gpu(tmp_path)


def test_what_nvidia_lacks_is_told_where_it_matters(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        passed = (("tensorrt", "no driver"), ("cuda", "no driver"))
        run_report = replace(runner.run_report, requested="auto", passed_over=passed)
    told = ("not tensorrt: no driver", "not cuda: no driver")
    monkeypatch.setattr("ct3d_edge.session.run_report.has_nvidia_gpu", lambda: False)
    assert run_report.notes() == ()
    assert run_report.notes(verbose=True) == told
    assert replace(run_report, requested="tensorrt").notes() == told
    assert replace(run_report, passed_over=(("openvino", "no device"),)).notes() == ("not openvino: no device",)
    assert run_report.to_dict()["passed_over"] == dict(passed)
    monkeypatch.setattr("ct3d_edge.session.run_report.has_nvidia_gpu", lambda: True)
    assert run_report.notes() == told
