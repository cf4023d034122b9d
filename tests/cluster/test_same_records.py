"""Two hundred scans, 25 of them broken or hostile and one that kills its process: the same records on every path."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import DOWNGRADE_ALL, MakeModel, MakeScan

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.slow

DEADLY = "scan_100.nii.gz"

SITECUSTOMIZE = f"""
import os, signal, sys

def end(event, arguments):
    if event == "open" and str(arguments[0]).endswith("{DEADLY}"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(end)
"""
"""Whoever opens a file of that name is killed, as by a defect in a decoder or the OOM killer."""

Records = list[dict[str, object]]


@pytest.fixture
def scans(make_scan: MakeScan, tmp_path: Path) -> Path:
    """174 scans, 25 broken or hostile files, and one that ends its process."""
    rng, folder = np.random.default_rng(0), tmp_path / "scans"
    for number in range(175):
        voxels = rng.integers(-900, 300, (24, 20, 12)).astype(np.int16)
        make_scan(f"scan_{number:03}.nii.gz", voxels=voxels, folder=folder / f"site_{number % 5}")
    whole = (folder / "site_0" / "scan_000.nii.gz").read_bytes()
    for number in range(24):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), number):
            damaged[position] ^= 0xFF
        content = bytes(damaged) if number % 3 else whole[: number * 40]
        (folder / f"broken_{number:02}.nii.gz").write_bytes(content)
    os.mkfifo(folder / "pipe.nii.gz")
    return folder


@pytest.fixture
def run(tmp_path: Path, scans: Path, make_model: MakeModel) -> Callable[..., Path]:
    """``run("x.jsonl", *options)``: `infer`, again with ``--resume`` while it is killed; the results file."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    command = [sys.executable, "-m", "ct3d_edge", "infer", str(scans), "-m", str(make_model()), "-p", "cpu"]

    def infer(name: str, *options: str) -> Path:
        out, resume = tmp_path / name, list[str]()
        for _ in range(3):
            words = [*command, *DOWNGRADE_ALL, "--out", str(out), *options, *resume]
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != -9:
                assert done.returncode in (0, 1), done.stderr
                return out
            resume = ["--resume"]
        raise AssertionError("killed three times")

    return infer


@pytest.fixture
def ray_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of four cores, whatever this machine has."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *sys.path]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()


def without_times(path: Path) -> Records:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "timing_ms"} for record in records]


def test_one_machine_four_shards_and_ray_give_the_same(
    run: Callable[..., Path], ray_address: str, tmp_path: Path, scans: Path
) -> None:
    expected = without_times(run("one.jsonl"))
    assert len(expected) == 200
    assert sum(record["error"] is None for record in expected) >= 170
    (deadly,) = (record for record in expected if str(record["scan"]).endswith(DEADLY))
    assert deadly["error"]["code"] == "worker_died"  # type: ignore[index]

    parts = [str(run(f"part{index}.jsonl", "--shard", f"{index}/4")) for index in (1, 2, 3, 4)]
    merged = tmp_path / "merged.jsonl"
    words = [sys.executable, "-m", "ct3d_edge", "merge", *parts, "--out", str(merged), "--input", str(scans)]
    assert subprocess.run(words, check=False).returncode == 1
    assert without_times(merged) == expected

    for actors in (2, 4):
        options = ("--engine", "ray", "--address", ray_address, "--cpus-per-worker", str(4 // actors))
        assert without_times(run(f"ray{actors}.jsonl", *options)) == expected
