"""``infer --engine ray``: options that it does not take, and what it prints."""

import json
import os
import re
import signal
import subprocess
import sys
import time
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


@pytest.mark.slow
def test_what_ray_prints_of_a_dead_machine_is_not_among_the_records(
    make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    cluster, err = Cluster(initialize_head=True, head_node_args={"num_cpus": 0}), tmp_path / "err.txt"
    try:
        leaving = cluster.add_node(num_cpus=1)
        command = [sys.executable, "-m", "ct3d_edge", "infer", str(make_scan()), "-m", str(make_model()), "-p", "cpu"]
        command += ["--engine", "ray", "--address", cluster.address, "--format", "jsonl", "-v"]
        with err.open("w") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream) as driver:
            deadline = time.monotonic() + 120
            while not (ready := re.search(r"worker ready: process (\d+)", err.read_text())):
                assert driver.poll() is None, err.read_text()
                assert time.monotonic() < deadline, err.read_text()
                time.sleep(0.002)
            os.kill(int(ready[1]), signal.SIGSTOP)  # with the scan
            cluster.add_node(num_cpus=1)
            cluster.remove_node(leaving, allow_graceful=False)
            os.kill(int(ready[1]), signal.SIGKILL)
            out, _ = driver.communicate(timeout=120)
    finally:
        cluster.shutdown()
    assert [json.loads(line)["scan"] for line in out.splitlines()] == [str(make_scan())]
    assert "(raylet)" in err.read_text(), "Ray printed"
