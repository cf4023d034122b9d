"""``infer --engine ray``: options that it does not take."""

from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from .conftest import Run


@pytest.mark.parametrize("option", ["--montage", "--gradcam-dir", "--report", "--dicom-sr"])
def test_outputs_that_need_volumes_are_refused(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path, option: str
) -> None:
    outcome = run("infer", make_scan(), "-m", make_model(), "--engine", "ray", option, tmp_path / "side.png")
    assert outcome.code == 2
    assert f"{option} does not work with --engine ray" in outcome.err
    assert "--resume" in outcome.err


@pytest.mark.parametrize("option", [("--address", "127.0.0.1:6379"), ("--cpus-per-worker", "2")])
def test_options_of_a_cluster_without_one_are_refused(
    run: Run, make_model: MakeModel, make_scan: MakeScan, option: tuple[str, str]
) -> None:
    outcome = run("infer", make_scan(), "-m", make_model(), *option)
    assert outcome.code == 2
    assert "add --engine ray" in outcome.err
