"""A scan that kills its process costs the run nothing but its own prediction."""

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import ANY_SCAN, DOWNGRADE_ALL, MakeModel, MakeScan

from ct3d_edge.inference.model import open_model
from ct3d_edge.inference.predict_many import SEQUENTIAL_SCHEDULE
from ct3d_edge.inference.resume import SecondProcess
from ct3d_edge.results.formats import parse_record
from ct3d_edge.results.journal import StartedScans
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.results.results_file import STARTED_SUFFIX

DEADLY_FILE = """
import os, signal, sys

def end(event, arguments):
    if event == "open" and str(arguments[0]).endswith("deadly.nii.gz"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(end)
"""
"""A sitecustomize.py: whoever opens a file of that name is killed, as by a defect in a decoder or the OOM killer."""


@pytest.fixture
def deadly_environment(tmp_path: Path) -> dict[str, str]:
    """Environment of a process that `DEADLY_FILE` kills."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DEADLY_FILE)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def without_time(record: ResultRecord) -> ResultRecord:
    return replace(record, timing=Timing())


def test_a_scan_that_kills_every_run_is_given_up(
    make_model: MakeModel, make_scan: MakeScan, tmp_path: Path, deadly_environment: dict[str, str]
) -> None:
    rng, folder, out = np.random.default_rng(1), tmp_path / "scans", tmp_path / "out.jsonl"
    for name in ("a", "b", "deadly", "e", "f"):
        make_scan(f"{name}.nii.gz", voxels=rng.integers(-900, 300, (24, 20, 12)).astype(np.int16), folder=folder)
    command = [sys.executable, "-m", "ct3d_edge", "infer", str(folder), "-m", str(make_model()), "-p", "cpu"]
    command += [*DOWNGRADE_ALL, "--out", str(out)]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], env=deadly_environment, capture_output=True, text=True, check=False)

    assert run().returncode == -9
    outcome = run("--resume")
    assert outcome.returncode == 1, outcome.stderr
    assert "in a second process" in outcome.stderr
    records = {Path(record.scan).name: record for record in map(parse_record, out.read_bytes().splitlines())}
    assert list(records) == ["a.nii.gz", "b.nii.gz", "deadly.nii.gz", "e.nii.gz", "f.nii.gz"]
    failure = records.pop("deadly.nii.gz").failure
    assert failure
    assert failure.code == "worker_died"
    with open_model(make_model(), ANY_SCAN) as model:
        for record in records.values():
            assert without_time(record) == without_time(model.predict(Path(record.scan)))
    assert list(tmp_path.glob("out.jsonl*")) == [out]


def test_a_second_process_gives_the_same_result(make_model: MakeModel, make_scan: MakeScan) -> None:
    scan = make_scan()
    with open_model(make_model(), ANY_SCAN) as model:
        here = next(model.iter_results([scan], SEQUENTIAL_SCHEDULE))
        with closing(SecondProcess(model)) as process:
            apart = process.predict(scan)
    assert without_time(apart.record) == without_time(here.record)
    assert here.model_input
    assert apart.model_input
    np.testing.assert_array_equal(apart.model_input.volume, here.model_input.volume)


def test_started_scans_outlive_the_process_only_if_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / f"x{STARTED_SUFFIX}"
    with StartedScans(path) as started:
        assert list(started.note([Path("a"), Path("b\n\udcff")])) == [Path("a"), Path("b\n\udcff")]
        copy = path.read_bytes()
    assert not path.exists()
    path.write_bytes(copy + b'"torn')
    with StartedScans(path) as started:
        assert started.earlier == {"a", "b\n\udcff"}
