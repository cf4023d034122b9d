"""Who may send requests: tokens, certificates, loopback."""

import shutil
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from builders import MakeModel, MakeScan
from traced import COMMAND, trace

from ct3d_edge.errors import UsageError
from ct3d_edge.serving.config import ServerConfig, bind_socket, read_tokens
from ct3d_edge.system.tls import TlsFiles, make_server_context, read_expiry

from .conftest import Server, Start, read_all

TOKEN, SECOND = "0123456789abcdef", "fedcba9876543210fedcba"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def write_certificate(
    authority: trustme.CA, path: Path, name: str = "127.0.0.1", days: float = 90, since: float = -100
) -> Path:
    """Certificate and key in one file."""
    now = datetime.now(UTC)
    first, last = now + timedelta(days=since), now + timedelta(days=days)
    made = authority.issue_cert(name, not_before=first, not_after=last)
    made.private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    return write_certificate(authority, tmp_path / "server.pem")


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n\n{SECOND}\n")
    path.chmod(0o600)
    return path


def test_without_a_token_only_health_is_answered(start: Start, token_file: Path, make_scan: MakeScan) -> None:
    server, data = start("--token-file", token_file), make_scan().read_bytes()
    refused = [None, "", " x", f" {TOKEN[:-1]}", f" {TOKEN} {TOKEN}", f" {TOKEN}\x80", TOKEN]
    for method, path in (("POST", "/v1/scans"), ("GET", "/metrics"), ("GET", "/v2"), ("GET", "/openapi.json")):
        for token in refused:
            headers = {} if token is None else {b"Authorization": f"Bearer{token}".encode("latin-1")}
            answer = httpx.request(method, server.url + path, content=data, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (path, token)
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert httpx.get(server.url + path).status_code == 200
    for token in (TOKEN, SECOND):
        assert httpx.post(f"{server.url}/v1/scans", content=data, headers=with_token(token)).status_code == 200
    assert TOKEN not in server.log
    assert httpx.get(f"{server.url}/openapi.json", headers=with_token(TOKEN)).json()["security"] == [{"token": []}]


def test_a_host_header_that_looks_like_a_public_path_needs_a_token(start: Start, token_file: Path) -> None:
    server = start("--token-file", token_file)
    for host in (b"a/v2/health/live?", b"a/v2/health/live#", b"a/v2/health/ready?"):
        answer = server.send(b"GET /metrics HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n", 5)
        assert answer.startswith(b"HTTP/1.1 401 "), host


def test_a_refused_body_is_not_stored(start: Start, token_file: Path) -> None:
    server = start("--token-file", token_file)
    head = b"POST /v1/scans HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    assert server.send(head + bytes(1000), 5).startswith(b"HTTP/1.1 401 ")
    assert list(server.temp.glob("*/*")) == []


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("", 0o600, "one token of at least 16 characters per line"),
        ("short\n", 0o600, "at least 16 characters"),
        (TOKEN, 0o604, "chmod 600"),
        ("ä" * 20, 0o600, "cannot be read"),
        (None, 0o600, r"there is no such file\. Make one: .*openssl rand -hex 32 > .*tokens"),
    ],
)
def test_a_token_file_that_protects_nothing_is_refused(
    tmp_path: Path, text: str | None, mode: int, message: str
) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
    with pytest.raises(UsageError, match=message):
        read_tokens(path)


def test_tls_protects_a_request(start: Start, certificate: Path, ca_file: Path, make_scan: MakeScan) -> None:
    server = start("--tls-cert", certificate)
    trusted = ssl.create_default_context(cafile=ca_file)
    answer = httpx.post(f"{server.url}/v1/scans", content=make_scan().read_bytes(), verify=trusted)
    assert answer.status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/v2")
    assert server.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")[:4] != b"HTTP"
    assert httpx.get(f"{server.url}/v2", verify=trusted).status_code == 200
    old = ssl.create_default_context(cafile=ca_file)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/v2", verify=old)
    assert server.stop() == 0


def test_a_client_that_never_shakes_hands_is_disconnected(start: Start, certificate: Path, ca_file: Path) -> None:
    server, begun = start("--tls-cert", certificate, "--body-timeout", 1), time.monotonic()
    for hello in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            connection.sendall(hello)
            read_all(connection)
    assert time.monotonic() - begun < 15
    trusted = ssl.create_default_context(cafile=ca_file)
    assert httpx.get(f"{server.url}/v2", verify=trusted).status_code == 200
    assert "Traceback" not in server.log
    assert server.stop() == 0


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_mutual_tls_serves_only_who_has_a_certificate(
    start: Start, authority: trustme.CA, certificate: Path, ca_file: Path, tmp_path: Path
) -> None:
    server = start("--tls-cert", certificate, "--client-ca", ca_file)
    client = write_certificate(authority, tmp_path / "client.pem", "client.example")
    stranger = write_certificate(trustme.CA(), tmp_path / "stranger.pem", "client.example")
    expired = write_certificate(authority, tmp_path / "expired.pem", "client.example", days=-1)

    def call(*options: object) -> int:
        words = ["curl", "-sS", "--fail", "--cacert", ca_file, *options, f"{server.url}/v2/health/live"]
        return subprocess.run(list(map(str, words)), capture_output=True, check=False).returncode

    assert call("--cert", client) == 0
    assert all(call(*options) for options in ([], ["--cert", stranger], ["--cert", expired]))
    assert call("--cert", client) == 0
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ca, path: write_certificate(ca, path, days=-1), "has expired. Renew it"),
        (lambda ca, path: write_certificate(ca, path, since=1), "is not valid yet. Is the clock of this machine right"),
        (lambda _, path: path, "No such file"),
        (lambda _, path: path.write_text("no certificate"), "cannot be used"),
        (lambda ca, path: ca.cert_pem.write_to_path(path), "cannot be used"),  # without its key
    ],
    ids=["expired", "early", "missing", "damaged", "no key"],
)
def test_a_bad_certificate_stops_the_start(authority: trustme.CA, tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "bad.pem"
    make(authority, path)  # type: ignore[operator]
    with pytest.raises(UsageError, match=message) as error:
        read_expiry(TlsFiles(path))
    assert "bad.pem" in str(error.value)


def test_a_key_of_another_certificate_or_behind_a_password_is_refused(
    authority: trustme.CA, certificate: Path, tmp_path: Path
) -> None:
    other = write_certificate(authority, tmp_path / "other.pem")
    with pytest.raises(UsageError, match="cannot be used"):
        make_server_context(TlsFiles(certificate, other))
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", str(certificate), "-out", str(locked)]
    if not shutil.which("openssl") or subprocess.run(command, capture_output=True, check=False).returncode:
        command[1] = "ec"
        subprocess.run(command, capture_output=True, check=True)
    with pytest.raises(UsageError, match="the key is encrypted"):
        make_server_context(TlsFiles(certificate, locked))
    with pytest.raises(UsageError, match=r"authority .* cannot be used"):
        make_server_context(TlsFiles(certificate, None, tmp_path / "absent.pem"))


def test_other_machines_need_a_token_or_a_certificate(token_file: Path, certificate: Path, ca_file: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):  # noqa: S104
        with pytest.raises(UsageError, match=r"anybody there could send scans. Give `token_file` or `client_ca`"):
            ServerConfig(host)
        with pytest.raises(UsageError):
            ServerConfig(host, tls=TlsFiles(certificate))
        ServerConfig(host, token_file=token_file)
        ServerConfig(host, tls=TlsFiles(certificate, None, ca_file))
        ServerConfig(host, allow_anonymous=True)
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        ServerConfig(host)


def test_a_taken_port_is_named() -> None:
    with bind_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Cannot listen on 127.0.0.1 port {port}: Address already in use"):
            bind_socket("127.0.0.1", port)
    with pytest.raises(UsageError, match=r"Cannot listen on 192\.0\.2\.1 port 0: .*Is it an address of this"):
        bind_socket("192.0.2.1", 0)
    with pytest.raises(UsageError, match=r"Cannot listen on no\.such\.host\.invalid"):
        bind_socket("no.such.host.invalid", 0)


SESSION = """
import pathlib, re, socket, subprocess, sys, time
log = pathlib.Path("log")
with log.open("w") as stream:
    server = subprocess.Popen([*sys.argv[1:4], "serve", "-m", "model.onnx", "-p", "cpu", "--port", "0"], stderr=stream)
while not (found := re.search(r"http://127.0.0.1:([0-9]+):", log.read_text())):
    assert server.poll() is None
    time.sleep(0.05)
scan = pathlib.Path("scan.nii.gz").read_bytes()
with socket.create_connection(("127.0.0.1", int(found[1]))) as connection:
    connection.sendall(b"POST /v1/scans HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(scan) + scan)
    print(connection.recv(12).decode())
time.sleep(float(sys.argv[4]))
server.terminate()
print(server.wait())
"""

LATER = 12
"""Seconds. ONNX Runtime looks up its host about ten after the first session, unless that is switched off."""


@pytest.mark.slow
def test_the_server_speaks_to_this_machine_only_and_leaves_no_file(
    make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    make_model("model.onnx")
    make_scan()
    traced = trace([sys.executable, "-c", SESSION, *COMMAND, LATER], tmp_path)
    assert traced.out.split() == ["HTTP/1.1", "200", "0"], traced.err
    addresses = [call for call in traced.inet if "sin_addr" in call or "sin6_addr" in call or "inet_" in call]
    assert addresses
    assert [call for call in addresses if "127.0.0.1" not in call] == []
    assert traced.resolved == ()
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "scan.nii.gz", "log", "home", "tmp"}
    assert not [*(tmp_path / "home").iterdir(), *(tmp_path / "tmp").iterdir()]


def test_uploads_are_private(server: Server, make_model: MakeModel) -> None:
    (folder,) = [path for path in server.temp.iterdir() if path.is_dir()]
    assert folder.stat().st_mode & 0o777 == 0o700
