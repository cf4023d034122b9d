"""TF_CONFIG, and what workers exchange, on a strategy of one device; test_distribution.py has two workers."""

import json
from pathlib import Path

import pytest
import tensorflow as tf

from ct3d_edge.errors import UsageError
from ct3d_edge.training.distributed import (
    EXAMPLE,
    exchange,
    read_workers,
    require_same_settings,
    send_file,
    wait_for_all,
)

TWO = {"worker": ["one:2222", "two:2222"]}
FIRST = {"type": "worker", "index": 0}


def test_workers_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 1}}))
    assert read_workers() == ("one:2222", "two:2222")


def test_the_example_of_the_message_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", EXAMPLE)
    assert read_workers() == ("host0:2222", "host1:2222")


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "[]",
        {"cluster": TWO},
        {"cluster": TWO, "task": 0},
        {"cluster": TWO, "task": {"type": "worker", "index": "first"}},
        {"cluster": {**TWO, "ps": ["three:2222"]}, "task": FIRST},
        {"cluster": TWO, "task": {"type": "chief", "index": 0}},
        {"cluster": {"worker": []}, "task": FIRST},
        {"cluster": {"worker": ["one:2222"]}, "task": FIRST},
        {"cluster": {"worker": ["one:1", "one:1"]}, "task": FIRST},
        {"cluster": TWO, "task": {"type": "worker", "index": 2}},
        {"cluster": {"worker": ["one", "two:2"]}, "task": FIRST},
        {"cluster": {"worker": ["one:1", "two:65536"]}, "task": FIRST},
        {"cluster": {"worker": [1, 2]}, "task": FIRST},
    ],
)
def test_unusable_tf_config(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UsageError, match="needs the environment variable TF_CONFIG") as caught:
        read_workers()
    found = "none" if config is None else config if isinstance(config, str) else json.dumps(config)
    assert f"found {found}. For the first of two:" in str(caught.value)


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0"])


@pytest.mark.parametrize("content", [b"", b"x", b"12345678", bytes(range(256)) * 5 + b"odd"])
def test_bytes_arrive_unchanged(strategy: tf.distribute.Strategy, content: bytes) -> None:
    assert exchange(strategy, content) == [content]


def test_one_process_agrees_with_itself(strategy: tf.distribute.Strategy, tmp_path: Path) -> None:
    require_same_settings(strategy, {"seed": 1, "name": "ö"})
    wait_for_all(strategy)
    (tmp_path / "file").write_bytes(b"content")
    send_file(strategy, tmp_path / "file")
    send_file(strategy, tmp_path / "none")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"content")]


def test_one_device_exchanges_nothing(tmp_path: Path) -> None:
    require_same_settings(None, {"seed": 1})
    send_file(None, tmp_path / "none")
    wait_for_all(None)
