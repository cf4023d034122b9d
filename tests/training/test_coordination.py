"""On a strategy of one device; test_distribution.py has two workers."""

from pathlib import Path

import pytest
import tensorflow as tf

from ct3d_edge.training.distributed.coordination import (
    _from_chief,
    differing,
    hand_out,
    require_agreement,
    wait_for_all,
)


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0"])


@pytest.mark.parametrize("content", [b"", b"x", b"12345678", bytes(range(256)) * 5 + b"odd"])
def test_bytes_travel_unchanged(strategy: tf.distribute.Strategy, content: bytes) -> None:
    assert _from_chief(strategy, content) == content


def test_one_process_agrees_with_itself(strategy: tf.distribute.Strategy, tmp_path: Path) -> None:
    require_agreement(strategy, {"seed": 1, "name": "ö"})
    wait_for_all(strategy)
    (tmp_path / "file").write_bytes(b"kept")
    hand_out(strategy, tmp_path / "file")
    hand_out(strategy, tmp_path / "none")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"kept")]


def test_one_device_has_nobody_to_agree_with(tmp_path: Path) -> None:
    require_agreement(None, {"seed": 1})
    hand_out(None, tmp_path / "none")
    wait_for_all(None)


def test_what_differs_is_named() -> None:
    chief = {"seed": 0, "size": [6, 6, 6], "preset": "default"}
    assert differing(dict(chief), chief) == ""
    mine = {"seed": 1, "size": [6, 6, 6], "preset": "tutorial"}
    expected = "seed is 1 here and 0 on worker 0; preset is 'tutorial' here and 'default' on worker 0"
    assert differing(mine, chief) == expected
