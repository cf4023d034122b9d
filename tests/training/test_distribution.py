import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.distribution import Cluster, is_chief, open_strategy, replicas

SCRIPT = Path(__file__).with_name("distributed_run.py")
ROOT = Path(__file__).parents[2]
TWO = {"worker": ["one:2222", "two:2222"]}


def _start(*arguments: object, config: object = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    environment["PYTHONPATH"] = str(ROOT)
    if config is not None:
        environment["TF_CONFIG"] = json.dumps(config)
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> Any:
    out, errors = _ended(process)
    assert process.returncode == 0, errors
    return json.loads(out)


def _ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=300)
    finally:
        process.kill()  # TensorFlow shrugs off the milder signals while it waits


def _cluster() -> list[str]:
    """Two addresses of this machine that are free now."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{door.getsockname()[1]}" for door in doors]
    for door in doors:
        door.close()
    return addresses


def _workers(*arguments: object, extra: tuple[tuple[object, ...], ...] = ((), ())) -> list[subprocess.Popen[str]]:
    cluster = {"worker": _cluster()}
    return [
        _start(
            "multiworker", *arguments, *extra[n], config={"cluster": cluster, "task": {"type": "worker", "index": n}}
        )
        for n in range(2)
    ]


def _assert_same_first_epoch(one: Any, other: Any) -> None:
    """The first alone: Keras draws an order more than it uses between the first and the second epoch."""
    assert one["epochs"][0] == pytest.approx(other["epochs"][0], abs=2e-4)


@pytest.mark.slow
def test_two_devices_train_like_one() -> None:
    shared = _result(_start("mirrored", 10, 4, "--logical-devices", 2))
    assert shared["replicas"] == 2
    _assert_same_first_epoch(shared, _result(_start("none", 10, 4)))


@pytest.mark.slow
def test_two_workers_train_like_one_device_and_agree() -> None:
    chief, other = map(_result, _workers(10, 4))
    assert (chief["chief"], other["chief"], chief["replicas"]) == (True, False, 2)
    assert (chief["epochs"], chief["weights"]) == (other["epochs"], other["weights"])
    _assert_same_first_epoch(chief, _result(_start("none", 10, 4)))


@pytest.mark.slow
def test_a_row_that_is_over_sits_out_and_validation_has_all() -> None:
    shared = _result(_start("mirrored", 9, 4, "--logical-devices", 2))
    assert len(shared["epochs"]) == 3
    assert all(np.isfinite(list(epoch.values())).all() for epoch in shared["epochs"])
    assert all(
        (epoch["val_accuracy"] * 9) == pytest.approx(round(epoch["val_accuracy"] * 9)) for epoch in shared["epochs"]
    )
    assert all((epoch["accuracy"] * 8) == pytest.approx(round(epoch["accuracy"] * 8)) for epoch in shared["epochs"])


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_ends_the_other(lost: int) -> None:
    leaving: list[tuple[object, ...]] = [(), ()]
    leaving[lost] = ("--leave-after-epoch", 1)
    workers = _workers(10, 4, extra=(leaving[0], leaving[1]))
    ended = [_ended(worker) for worker in workers]
    assert workers[lost].returncode == 9
    assert workers[1 - lost].returncode != 0
    assert "lost" in ended[1 - lost][1] or "heartbeat" in ended[1 - lost][1].lower()


@pytest.mark.slow
def test_a_worker_alone_gives_up_and_names_the_missing_one() -> None:
    addresses = _cluster()
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    process = _start("multiworker", 10, 4, "--wait", 2, config=config)
    _, errors = _ended(process)
    assert process.returncode == 2
    assert f"waited 2 s for {addresses[1]}. Start the same command there" in errors


@pytest.mark.slow
def test_workers_with_other_scans_are_refused() -> None:
    workers = _workers(10, 4, extra=((), ("--digest", "123456")))
    for worker in workers:
        _, errors = _ended(worker)
        assert worker.returncode == 2
        assert "do not have the same scans and options" in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mirrored", 10, 4), "needs two or more; TensorFlow sees CPU:0 alone. Leave --distribute out."),
        (("mirrored", 10, 3, "--logical-devices", 2), "A batch of 3 cannot be shared equally by 2 devices."),
        (("mirrored", 1, 2, "--logical-devices", 2), "2 devices need 2 scans each"),
    ],
)
def test_what_cannot_be_shared_is_refused(arguments: tuple[object, ...], message: str) -> None:
    process = _start(*arguments)
    _, errors = _ended(process)
    assert process.returncode == 2
    assert message in errors


def test_one_device_needs_no_strategy() -> None:
    assert open_strategy("none") is None
    assert is_chief(None)
    assert replicas(None) == 1


def test_cluster_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 1}}))
    assert Cluster.from_environment() == Cluster(("one:2222", "two:2222"), 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "it is not set"),
        ("{", "found {"),
        ({"cluster": TWO}, "found {"),
        ({"cluster": {**TWO, "ps": ["three:2222"]}, "task": {"type": "worker", "index": 0}}, "only tasks of the type"),
        ({"cluster": {"worker": ["one:2222"]}, "task": {"type": "worker", "index": 0}}, "two different workers"),
        ({"cluster": {"worker": ["one:1", "one:1"]}, "task": {"type": "worker", "index": 0}}, "two different workers"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "the index is 2, but there are 2 workers"),
        ({"cluster": {"worker": ["one", "two:2"]}, "task": {"type": "worker", "index": 0}}, "'one' is not host:port"),
    ],
)
def test_unusable_tf_config(config: object, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UsageError, match="needs the environment variable TF_CONFIG") as caught:
        Cluster.from_environment()
    assert message in str(caught.value)
