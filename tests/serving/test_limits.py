"""What one client, and all of them together, may take; and how the server ends."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which

import httpx
import numpy as np
import pytest
from builders import MakeScan, endless_scan

from .conftest import Server, Start, read_all, wait_until

HEAD = b"POST /v1/scans HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@contextlib.contextmanager
def connect(server: Server, data: bytes, timeout: float = 20) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout) as connection:
        connection.sendall(data)
        yield connection


def send_for_ever(connection: socket.socket, data: bytes) -> None:
    while True:
        connection.sendall(data)


def stored(server: Server) -> list[Path]:
    """The files of requests that run."""
    return [path for path in server.temp.glob("*/*/*") if path.is_file()]


def test_a_body_over_the_limit_is_refused_before_and_while_it_is_read(server: Server) -> None:
    assert server.send(HEAD % 2_000_001, 5).startswith(b"HTTP/1.1 413 ")

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(100_000)

    answer = httpx.post(f"{server.url}/v1/scans", content=(bytes(100_000) for _ in range(40)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        httpx.post(f"{server.url}/v1/scans", content=endless())
    wait_until(lambda: not stored(server), "removal of the bodies")


def test_a_body_that_does_not_come_is_ended_with_408(server: Server) -> None:
    begun = time.monotonic()
    answer = server.send(HEAD % 1_000_000 + bytes(1000))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 1.5 < time.monotonic() - begun < 15  # --body-timeout 2
    wait_until(lambda: not stored(server), "removal of the body")


@pytest.mark.parametrize("head", [b"", b"POST /v1/scans HTTP/1.1\r\nHost: x\r\nX-", b"\x16\x03\x01\x02"])
def test_a_client_without_a_request_is_disconnected(server: Server, head: bytes) -> None:
    begun = time.monotonic()
    with connect(server, head) as connection:
        read_all(connection)
    assert time.monotonic() - begun < 15


def test_a_head_that_comes_byte_by_byte_is_disconnected(server: Server) -> None:
    begun = time.monotonic()
    with connect(server, b"POST /v1/scans HTTP/1.1\r\n") as connection, contextlib.suppress(ConnectionError):
        while time.monotonic() < begun + 15:
            connection.sendall(b"X")
            time.sleep(0.1)
    assert 1 < time.monotonic() - begun < 14


def test_a_client_that_does_not_read_is_disconnected(start: Start) -> None:
    server = start("--body-timeout", 1)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.port))
        with pytest.raises(ConnectionError):
            send_for_ever(connection, request * 100)
    assert httpx.get(f"{server.url}/v2/health/live").status_code == 200


def test_silent_connections_do_not_keep_others_out_for_long(start: Start) -> None:
    server = start("--max-connections", 4, "--body-timeout", 1)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(server, b"")) for _ in range(4)]
        refused = server.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 5)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After:" in refused
        for connection in silent:
            assert read_all(connection) == b""
        assert httpx.get(f"{server.url}/v2").status_code == 200


def test_a_full_queue_is_503_with_retry_after_before_the_body(start: Start, make_scan: MakeScan) -> None:
    server = start("--workers", 1, "--queue-size", 1, "--body-timeout", 30)
    data = make_scan().read_bytes()
    with connect(server, HEAD % len(data) + data[:10]) as first, connect(server, HEAD % len(data)) as second:
        wait_until(lambda: len(list(server.temp.glob("*/*"))) == 2, "two admitted requests")
        refused = server.send(HEAD % 500_000_000, 1).partition(b"\r\n\r\n")  # answered although no body was sent
        assert refused[0].startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: " in refused[0].lower()
        tensors = httpx.post(f"{server.url}/v2/models/tiny/infer", content=b"{}")
        assert tensors.status_code == 503, tensors.text
        assert int(tensors.headers["Retry-After"]) >= 1
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        for connection, rest in ((first, data[10:]), (second, data)):
            connection.sendall(rest)
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert httpx.post(f"{server.url}/v1/scans", content=data).status_code == 200


def test_every_request_of_many_clients_is_answered(start: Start, make_scan: MakeScan) -> None:
    server, data = start("--queue-size", 2), make_scan().read_bytes()

    def call(_: int) -> int:
        while True:
            answer = httpx.post(f"{server.url}/v1/scans", content=data, timeout=60)
            if answer.status_code != 503:
                return answer.status_code
            assert int(answer.headers["Retry-After"]) >= 1
            time.sleep(0.05)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(call, range(64))) == {200}
    assert stored(server) == []


def test_a_scan_that_takes_too_long_is_a_record_with_504(start: Start, tmp_path: Path) -> None:
    server = start("--scan-timeout", 0.2, "--max-upload", "100GB", "--max-files", 5)
    path = endless_scan(tmp_path / "endless")
    os.truncate(path, 300_000_000)
    header = bytearray(path.read_bytes()[:352])
    header[42:56] = np.array([700, 700, 300, 1, 1, 1, 1], "<i2").tobytes()
    answer = httpx.post(f"{server.url}/v1/scans", content=bytes(header) + bytes(2 * 700 * 700 * 300), timeout=120)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    wait_until(lambda: not stored(server), "removal of the upload")


def test_a_client_that_leaves_frees_its_files(server: Server) -> None:
    with connect(server, HEAD % 1_000_000 + bytes(100_000)):
        wait_until(lambda: bool(stored(server)), "an upload")
    wait_until(lambda: not stored(server), "removal of the upload")
    assert httpx.get(f"{server.url}/v2/health/live").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_running_requests_finish(start: Start, make_scan: MakeScan, number: signal.Signals) -> None:
    server, data = start("--shutdown-timeout", 30), make_scan().read_bytes()
    with connect(server, HEAD % len(data) + data[:100]) as connection:
        wait_until(lambda: bool(list(server.temp.glob("*/*"))), "an admitted request")
        server.process.send_signal(number)
        server.wait_for_log("stopping: running requests finish")
        with pytest.raises(ConnectionError):
            wait_until(lambda: bool(server.send(b"")) and False, "the end of the listening socket", 10)
        connection.sendall(data[100:])
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0
    assert "stopped" in server.log
    assert [path for path in server.temp.iterdir() if path.is_dir()] == []


def test_a_request_that_does_not_end_holds_the_server_no_longer_than_said(start: Start) -> None:
    server = start("--shutdown-timeout", 1, "--body-timeout", 600)
    with connect(server, HEAD % 1_000_000):
        wait_until(lambda: bool(list(server.temp.glob("*/*"))), "an admitted request")
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 15
    assert [path for path in server.temp.iterdir() if path.is_dir()] == []


def test_uploads_that_a_killed_server_left_are_removed_by_the_next(start: Start) -> None:
    server = start("--body-timeout", 60)
    with connect(server, HEAD % 1_000_000 + bytes(100_000)):
        wait_until(lambda: bool(list(server.temp.glob("*/*"))), "an upload")
        server.stop(signal.SIGKILL)
    (left,) = [path for path in server.temp.iterdir() if path.is_dir()]
    beside = start(temp=server.temp)
    assert not left.exists()
    another = start(temp=server.temp)
    assert len([path for path in server.temp.iterdir() if path.is_dir()]) == 2
    for each in (beside, another):
        assert httpx.get(f"{each.url}/v2/health/live").status_code == 200
        assert each.stop() == 0


@pytest.mark.skipif(not which("mount") or os.geteuid() != 0, reason="needs root, to mount a file system")
def test_a_full_disk_is_507_and_the_server_goes_on(start: Start, make_scan: MakeScan, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        server = start("--min-free", "1B", temp=small)
        answer = httpx.post(f"{server.url}/v1/scans", content=bytes(3_000_000))
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert httpx.post(f"{server.url}/v1/scans", content=make_scan().read_bytes()).status_code == 200
        assert server.stop() == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)  # noqa: S607


def test_uploads_leave_disk_space_free(start: Start, make_scan: MakeScan) -> None:
    server, data = start("--min-free", "900TB", "--model-name", "tiny"), make_scan().read_bytes()
    assert server.send(HEAD % len(data), 5).startswith(b"HTTP/1.1 507 ")  # before the body
    for path, options in (
        ("/v1/scans", {"content": (part for part in (data,))}),  # of unknown length
        ("/v1/scans", {"files": {"file": data}}),
        ("/v2/models/tiny/infer", {"content": b"{}"}),
    ):
        answer = httpx.post(server.url + path, **options)
        assert answer.status_code == 507, path
        assert "no disk space" in answer.text
    assert stored(server) == []
    assert "disk_full" in server.log
    assert f"uploads get 507: {server.temp} has less than" in server.log


def test_threads_do_not_grow(server: Server, make_scan: MakeScan) -> None:
    data, status = make_scan().read_bytes(), Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")

    def threads() -> int:
        return int(status.read_text().partition("Threads:")[2].split()[0])

    def call(count: int) -> None:
        for _ in range(count):
            httpx.post(f"{server.url}/v1/scans", content=data)

    call(20)
    before = threads()
    call(20)
    assert threads() <= before + 1
    assert threading.active_count() < 50
