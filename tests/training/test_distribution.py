"""Sharing a run: real devices of TensorFlow's (the CPU split in two), and real workers (two processes)."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.training.distributed import count_replicas, explain_lost_worker, is_chief, open_strategy
from ct3d_edge.training.fit import train
from ct3d_edge.training.presets import DEFAULT

from .conftest import write_scan
from .distributed_run import SIZE, network

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OPTIONS = ("--shape", *SIZE, "--epochs", 3, "--learning-rate", 0.01)
RUN_FILES = ["contract.json", "curves.png", "history.csv", "model.keras", "split.json"]
ROUNDING = 1e-5
ADAM = 2e-3
"""Adam's steps magnify rounding, see shared_fit.py; one device adds up a variance in another way than several."""


class Ended(NamedTuple):
    code: int
    out: str
    errors: str


def _start(script: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    environment = {**inherited, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait(process: subprocess.Popen[str]) -> Ended:
    try:
        out, errors = process.communicate(timeout=600)
    finally:
        process.kill()  # TensorFlow shrugs off the milder signals while it waits
    return Ended(process.returncode, out, errors)


def _workers(
    data: Path, *arguments: object, dying: int = 0, extra: tuple[tuple[object, ...], ...] = ((), ())
) -> list[Ended]:
    """Run two workers on ports that are free now; the second dies after an epoch, or has arguments of its own."""
    with ExitStack() as doors:
        opened = [doors.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        cluster = {"worker": [f"127.0.0.1:{door.getsockname()[1]}" for door in opened]}
    started = []
    for n, last in enumerate((0, dying)):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": n}})
        everything = ("train", data, *arguments, *OPTIONS, "--strategy", "multiworker", *extra[n])
        # One that is killed leaves its temporary folder behind.
        started.append(_start("distributed_run.py", 1, last, *everything, TF_CONFIG=config, TMPDIR=str(data.parent)))
    return [_wait(process) for process in started]


def _losses(run: Path) -> list[float]:
    with (run / "history.csv").open(newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) for name in ("loss", "val_loss")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 scans: 10 to train on, of which 6 are of the first class, and 4 to validate."""
    folder = tmp_path_factory.mktemp("data")
    for label, count in enumerate((8, 6)):
        for n in range(count):
            write_scan(folder / "ab"[label] / f"study_{n:02}.nii.gz", seed=100 * label + n, ball=label == 1)
    return folder


@pytest.fixture(scope="module")
def mirrored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of a run on two devices."""
    out = tmp_path_factory.mktemp("mirrored") / "run"
    ended = _wait(_start("distributed_run.py", 2, 0, "train", data, "--out", out, *OPTIONS, "--strategy", "mirrored"))
    assert ended.code == 0, ended.errors
    assert "run/model.keras:weightsofepoch" in re.sub(r"\s", "", ended.out), "wrapped at any place"
    return _losses(out)


@pytest.mark.slow
def test_two_devices_train_like_one_to_rounding() -> None:
    ended = _wait(_start("shared_fit.py"))
    assert ended.code == 0, ended.errors
    result = json.loads(ended.out)
    assert len(result["one"]["epochs"]) == 3
    for one, two in zip(result["one"]["epochs"], result["two"]["epochs"], strict=True):
        assert two == pytest.approx(one, abs=ROUNDING)
    for one, two in zip(result["one"]["weights"], result["two"]["weights"], strict=True):
        np.testing.assert_allclose(two, one, atol=ROUNDING)
    assert len({tuple(mask) for step in result["masks"] for mask in step}) == 4, "two steps on two devices"


@pytest.mark.slow
def test_the_command_shares_a_run_between_devices(
    data: Path, tmp_path: Path, mirrored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: network(*size))
    run = train(data, tmp_path / "alone", replace(DEFAULT, epochs=3, learning_rate=0.01), size=SIZE)
    assert len(mirrored) == 6
    assert mirrored == pytest.approx(_losses(run.folder), abs=ADAM)


@pytest.mark.slow
def test_two_workers_train_like_two_devices_and_the_chief_keeps_the_files(
    data: Path, tmp_path: Path, mirrored: list[float]
) -> None:
    runs = tmp_path / "chief", tmp_path / "other"
    chief, other = _workers(data, extra=(("--out", runs[0]), ("--out", runs[1])))
    assert (chief.code, other.code) == (0, 0), chief.errors + other.errors
    assert "chief/model.keras:weightsofepoch" in re.sub(r"\s", "", chief.out), "wrapped at any place"
    assert [line.split("  ")[0] for line in chief.errors.splitlines()][-3:] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert sorted(path.name for path in runs[0].iterdir()) == RUN_FILES
    assert (other.out, "epoch" in other.errors, runs[1].exists()) == ("", False, False)
    assert _losses(runs[0]) == pytest.approx(mirrored, abs=ROUNDING)
    assert keras.saving.load_model(runs[0] / "model.keras").input_shape == (None, *SIZE, 1)


@pytest.mark.slow
def test_a_worker_dies_and_the_run_goes_on_to_the_same_end(data: Path, tmp_path: Path, mirrored: list[float]) -> None:
    out = tmp_path / "run"
    chief, other = _workers(data, "--out", out, dying=1)
    assert (chief.code, other.code) == (3, 9), chief.errors
    assert "error: Another worker has ended" in chief.errors
    assert (out / "checkpoint.npz").exists()
    # The second has no run folder: it is given the chief's checkpoint.
    resumed = _workers(data, "--resume", extra=(("--out", out), ("--out", tmp_path / "other")))
    assert [ended.code for ended in resumed] == [0, 0], resumed
    assert "resuming after epoch" in resumed[0].errors
    assert sorted(path.name for path in out.iterdir()) == RUN_FILES
    assert _losses(out) == pytest.approx(mirrored, abs=ROUNDING)


@pytest.mark.slow
def test_workers_that_were_started_otherwise_are_refused(data: Path, tmp_path: Path) -> None:
    chief, other = _workers(data, "--out", tmp_path / "run", extra=((), ("--preset", "tutorial", "--batch-size", 4)))
    assert (chief.code, other.code) == (2, 2), chief.errors + other.errors
    for ended in (chief, other):
        assert "not started in the same way: name is 'default' on worker 0, elsewhere 'tutorial'; " in ended.errors


@pytest.mark.slow
def test_a_wait_that_python_cannot_interrupt_ends() -> None:
    imports = "import time; from ct3d_edge.training import distributed"
    code = f"{imports}\nwith distributed._end_process_after(0.1): time.sleep(60)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, "Timeout (0:00:00.100000)!" in ended.stderr) == (1, True)


@pytest.mark.skipif(len(tf.config.list_physical_devices("GPU")) > 1, reason="several GPUs can share a run")
def test_one_device_cannot_share() -> None:
    with pytest.raises(UsageError, match=r"needs two or more; TensorFlow sees .PU:0 alone\. Leave `distribute` out"):
        open_strategy("mirrored")


def test_one_device_needs_no_strategy() -> None:
    assert open_strategy("none") is None
    assert is_chief(None)
    assert count_replicas(None) == 1


def test_a_lost_worker_is_one_sentence() -> None:
    with pytest.raises(ProviderError, match=r"Another worker has ended.*`resume=True`"), explain_lost_worker():
        raise tf.errors.UnavailableError(None, None, "heartbeat")
