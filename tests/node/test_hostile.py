"""Messages that no honest peer sends: the node goes on, and writes nothing outside its spool."""

from pathlib import Path

import pytest

from bench.node_hostile import attack_node

from .conftest import StartProcess


@pytest.mark.slow
def test_node_goes_on_after_hostile_messages(start_process: StartProcess, tmp_path: Path) -> None:
    node = start_process("--network-timeout", "5")
    before = set(tmp_path.iterdir())
    assert attack_node(node, 300) == []
    assert set(tmp_path.iterdir()) == before
