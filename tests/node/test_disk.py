"""A spool on a small disk: instances are refused before it is full, and what was accepted is predicted."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from builders import DOWNGRADE_ALL, MakeModel

from bench.node_peers import NodeProcess, wait_for
from bench.node_series import write_small_series

from .conftest import read_records, send


def test_node_refuses_before_its_disk_is_full(tmp_path: Path, make_model: MakeModel) -> None:
    unshare, spool = shutil.which("unshare"), tmp_path / "spool"
    spool.mkdir()
    if unshare is None or os.geteuid() != 0 or subprocess.run([unshare, "-m", "true"], check=False).returncode:
        pytest.skip("mounts take root and unshare")
    mount = f'mount -t tmpfs -o size=2m none {spool} && exec "$@"'
    options = ("--stable-for", "0.5", *DOWNGRADE_ALL, "--min-free", "1MB")
    node = NodeProcess(spool, make_model(), *options, prefix=(unshare, "-m", "sh", "-c", mount, "sh"))
    try:
        node.wait_until_listening()
        series = [f"1.2.3.{number}" for number in range(1, 31)]
        accepted = [uid for uid in series if not send(node.port, write_small_series(tmp_path / uid, uid)).returncode]
        assert 5 < len(accepted) < len(series)
        inside = Path(f"/proc/{node.process.pid}/root{spool}")  # its mount is seen by nobody else

        def predicted() -> set[str]:
            return {Path(record.scan).name for record in read_records(inside)}

        wait_for(lambda: predicted() >= {f"{uid}-1" for uid in accepted}, "records of the series that were accepted")
        assert "stay free" in node.log.read_text()
        assert shutil.disk_usage(inside).free > 500_000
    finally:
        node.kill()
