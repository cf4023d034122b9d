"""What a node says at its start about settings, machine and peers that do not work."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from builders import DOWNGRADE_ALL, MakeModel
from pydicom import dcmread

from bench.node_peers import MAIN, ROOT, SENDER, Archive, free_port, wait_for
from ct3d_edge.errors import UsageError
from ct3d_edge.node.config import NodeConfig, Peer

from .conftest import MakeSeries, StartProcess, send, wait_for_records


def listen(spool: Path, model: Path, *options: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """``ct3d-edge listen`` that ends by itself."""
    return subprocess.run(
        [
            *(*prefix, sys.executable, "-W", "error", "-c", MAIN, "listen", "--spool", str(spool), "-m", str(model)),
            *("-p", "cpu", "--peer", f"{SENDER}@127.0.0.1", *DOWNGRADE_ALL, *options),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_port_of_another_require_program(tmp_path: Path, make_model: MakeModel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = listen(tmp_path / "spool", make_model(), "--port", str(port))
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1] == (
        f"error: Another program listens on port {port} of 127.0.0.1. Stop it, or take another port with --port."
    )


def test_spool_of_another_node(start_process: StartProcess, make_model: MakeModel) -> None:
    node = start_process()
    ended = listen(node.spool, make_model(), "--port", str(free_port()))
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1] == (
        f"error: Another node (process {node.process.pid}) uses {node.spool}. Stop it, or name another folder with "
        "--spool."
    )


def test_spool_that_cannot_be_written(tmp_path: Path, make_model: MakeModel) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0 or subprocess.run([unshare, "-m", "true"], check=False).returncode:
        pytest.skip("mounts take root and unshare")
    mount = f'mount --bind {spool} {spool} && mount -o remount,bind,ro {spool} && exec "$@"'
    ended = listen(spool, make_model(), "--port", str(free_port()), prefix=(unshare, "-m", "sh", "-c", mount, "sh"))
    assert ended.returncode in (73, 74)
    assert f"{spool}" in ended.stderr
    assert "Read-only file system" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--peer", "CT"), "A DICOM node is named AET@HOST:PORT, e.g. PACS@10.0.0.5:104; found --peer CT."),
        (("--peer", "CT\\1@10.0.0.1"), "An AE title has 1 to 16 printable ASCII characters and no backslash"),
        (("--peer", "CT@10.0.0.0/99"), "A network is written ADDRESS/BITS, e.g. 10.1.0.0/16; found CT@10.0.0.0/99."),
        (("--peer", "CT@no-such-host.invalid"), "The host name of CT@no-such-host.invalid has no address"),
        (("--send-to", "PACS@10.0.0.5"), "A destination needs a port"),
        (("--send-to", "PACS@10.0.0.5:99999"), "A port is a number from 1 to 65535"),
        (("--ae-title", "SEVENTEEN-LETTERS"), "An AE title has 1 to 16 printable ASCII characters"),
        (("--tls-cert", "node.pem"), "TLS needs --tls-cert, --tls-key and --tls-ca; give all three."),
        (("--send-tls",), "Sending with TLS needs a certificate"),
    ],
)
def test_settings_that_mean_nothing(
    tmp_path: Path, make_model: MakeModel, options: tuple[str, ...], message: str
) -> None:
    ended = listen(tmp_path / "spool", make_model(), "--port", str(free_port()), *options)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr


def test_check_tries_peers_and_settings(
    tmp_path: Path, make_model: MakeModel, archive: Archive, start_process: StartProcess
) -> None:
    archive.start()
    options = ("--port", str(free_port()), "--check", "--send-to", str(archive.peer))
    wait_for(lambda: listen(tmp_path / "other", make_model(), *options).returncode == 0, "the archive answers")
    node = start_process()
    gone = ("--peer", f"GONE@127.0.0.1:{free_port()}")
    ended = listen(node.spool, make_model(), *options, *gone)
    assert ended.returncode == 3
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["FAILED", "ok", "ok", "FAILED", "ok", "ok"]
    assert lines[0].endswith("Stop it, or name another folder with --spool.")
    assert "Connection refused" in lines[3]
    assert lines[-1].startswith("ok      model: provider cpu")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "no report is sent, as there is no --send-to; series stay in {spool} for 24 h; Ctrl-C ends it"),
        (
            ("--send-to", "PACS@127.0.0.1:1", "--retention-hours", "0"),
            "reports go to PACS@127.0.0.1:1; series stay in {spool} until they are predicted; Ctrl-C ends it",
        ),
    ],
)
def test_start_says_what_is_sent_and_what_stays(
    start_process: StartProcess, options: tuple[str, ...], line: str
) -> None:
    node = start_process(*options)
    wait_for(lambda: line.format(spool=node.spool) in node.log.read_text(), line)


def test_options_stand_in_a_file(tmp_path: Path, make_model: MakeModel, make_series: MakeSeries) -> None:
    port = free_port()
    config = tmp_path / "node.toml"
    config.write_text(
        f'[listen]\nspool = "spool"\nmodel = "{make_model()}"\nprovider = "cpu"\npeer = ["{SENDER}@127.0.0.1"]\n'
        f'port = {port}\nstable-for = 0.5\nmin-free = "1KB"\n'
    )
    command = [sys.executable, "-c", MAIN, "listen", "--config", str(config)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        try:
            files = sorted(make_series().iterdir())
            wait_for(lambda: send(port, files).returncode == 0, "the node takes a series")
            wait_for(lambda: len(list(tmp_path.glob("spool/series/*/.done"))) == 1, "the series is done")
        finally:
            process.terminate()
    assert dcmread(next(tmp_path.glob("spool/series/*/*.dcm"))).PatientID == dcmread(files[0]).PatientID


def test_destinations_of_one_title_are_refused(tmp_path: Path) -> None:
    both = (Peer("PACS", "10.0.0.1", 104), Peer("PACS", "10.0.0.2", 104))
    with pytest.raises(UsageError, match="Two destinations have the AE title PACS; titles must differ"):
        NodeConfig(tmp_path, (Peer("CT", "10.0.0.1"),), both)


def test_node_without_peers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No peer may send anything"):
        NodeConfig(tmp_path, ())


def test_termination_ends_the_node_with_its_work_on_the_disk(
    start_process: StartProcess, make_series: MakeSeries
) -> None:
    node = start_process()
    assert send(node.port, sorted(make_series().iterdir())).returncode == 0
    assert node.interrupt() == 0
    assert "stopped" in node.log.read_text()
    node.restart()
    assert len(wait_for_records(node.spool, 1)) == 1
