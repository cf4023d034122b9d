"""Series that were accepted survive kills of the node and the archive's absence: nothing is lost, nothing is twice."""

from pathlib import Path

import pytest
from builders import DOWNGRADE_ALL, MakeModel

from bench.node_crashes import COMPLETION, send_with_crashes
from bench.node_peers import Archive, NodeProcess

from .conftest import require_program


@pytest.mark.slow
def test_every_series_has_one_record_and_one_report(tmp_path: Path, make_model: MakeModel, archive: Archive) -> None:
    require_program("storescu")
    series = [f"1.2.826.0.1.{number}" for number in range(1, 41)]
    archive.start()
    options = (*COMPLETION, *DOWNGRADE_ALL, "--send-to", str(archive.peer))
    node = NodeProcess(tmp_path / "spool", make_model(), *options).wait_until_listening()
    try:
        outcome = send_with_crashes(node, archive, tmp_path / "sent", series, kills=5)
    finally:
        node.kill()
    assert outcome.faults(series) == []
    assert "Traceback" not in node.log.read_text()
