"""TLS with certificates of both sides, made here with openssl."""

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import MakeModel

from bench.node_peers import SENDER, Archive, free_port, wait_for
from ct3d_edge.errors import UsageError
from ct3d_edge.node.config import Peer
from ct3d_edge.node.delivery import Caller, UnreachableError
from ct3d_edge.system.tls import TlsFiles, describe_expiry, make_client_context, read_expiry

from .conftest import MakeSeries, StartNode, require_program, send
from .test_start import listen


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, *, days: int = 90) -> TlsFiles:
        """A certificate for this machine."""
        key, certificate, request = (self.folder / f"{name}{suffix}" for suffix in (".key", ".pem", ".csr"))
        extensions = self.folder / "extensions.cnf"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial"),
            *("-days", str(days), "-out", certificate, "-extfile", extensions),
        )
        return TlsFiles(certificate, key, self.ca)


def _openssl(*words: object) -> None:
    subprocess.run([require_program("openssl"), *map(str, words)], check=True, capture_output=True)


def make_authority(folder: Path) -> Authority:
    folder.mkdir()
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Test authority", "-days", "90"),
        *("-keyout", folder / "ca.key", "-out", folder / "ca.pem"),
    )
    return Authority(folder)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


def tls_options(files: TlsFiles) -> tuple[str, ...]:
    """Options of dcmtk's storescu and storescp."""
    return ("+tls", str(files.key), str(files.certificate), "+cf", str(files.ca))


def test_series_and_report_travel_with_tls(
    start_node: StartNode, make_series: MakeSeries, tmp_path: Path, authority: Authority
) -> None:
    own, sender, keeper = authority.issue("node"), authority.issue("sender"), authority.issue("archive")
    folder, port = tmp_path / "archive", free_port()
    folder.mkdir()
    command = [require_program("storescp"), "-aet", "ARCHIVE", "-od", str(folder), *tls_options(keeper), str(port)]
    with subprocess.Popen(command) as archive:
        try:
            node = start_node(tls=own, send_tls=True, destinations=(Peer("ARCHIVE", "127.0.0.1", port),))
            sent = send(node.port, sorted(make_series().iterdir()), *tls_options(sender))
            assert sent.returncode == 0, sent.stderr
            wait_for(lambda: len(list(folder.iterdir())) == 1, "a report")
        finally:
            archive.terminate()


def test_peer_without_tls_or_of_another_authority_is_refused(
    start_node: StartNode, make_series: MakeSeries, tmp_path: Path, authority: Authority
) -> None:
    node = start_node(tls=authority.issue("node"))
    files = sorted(make_series().iterdir())
    other = make_authority(tmp_path / "other").issue("sender")
    stranger = TlsFiles(other.certificate, other.key, authority.ca)
    assert send(node.port, files).returncode != 0
    assert send(node.port, files, *tls_options(stranger)).returncode != 0
    assert send(node.port, files, "+tla", "+cf", str(authority.ca)).returncode != 0  # shows no certificate
    assert not list(node.spool.rglob("*.dcm"))
    assert send(node.port, files, *tls_options(authority.issue("sender"))).returncode == 0


def test_destination_of_another_authority_gets_nothing(
    tmp_path: Path, authority: Authority, start_node: StartNode
) -> None:
    node = start_node(tls=make_authority(tmp_path / "other").issue("node"))
    caller = Caller(SENDER, 5, make_client_context(authority.issue("sender")))
    with pytest.raises(UnreachableError, match="TLS failed: self-signed certificate in certificate chain"):
        caller.verify(Peer("CT3D-EDGE", "127.0.0.1", node.port))


def test_expired_certificate_is_refused_at_the_start(
    tmp_path: Path, authority: Authority, make_model: MakeModel
) -> None:
    files = authority.issue("node", days=-1)
    ended = listen(
        tmp_path / "spool",
        make_model(),
        *("--port", str(free_port()), "--tls-cert", str(files.certificate)),
        *("--tls-key", str(files.key), "--tls-ca", str(files.ca)),
    )
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1] == (
        f"error: The certificate {files.certificate} has expired. Renew it, then start again."
    )


def test_expiry_of_a_certificate(authority: Authority) -> None:
    long, soon = authority.issue("node", days=90), authority.issue("soon", days=8)
    assert timedelta(89) < read_expiry(long) - datetime.now(UTC) <= timedelta(90)
    assert describe_expiry(long) is None
    assert describe_expiry(soon) == f"The certificate {soon.certificate} expires on {read_expiry(soon):%Y-%m-%d}."


def test_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(UsageError, match="cannot be used"):
        make_client_context(TlsFiles(one.certificate, other.key, authority.ca))


@pytest.mark.skipif(os.name == "nt", reason="openssl of Windows asks")
def test_key_with_a_password_is_refused(authority: Authority, tmp_path: Path) -> None:
    files, locked = authority.issue("node"), tmp_path / "locked.key"
    _openssl("rsa", "-aes256", "-passout", "pass:secret", "-in", files.key, "-out", locked)
    with pytest.raises(UsageError, match="the key is encrypted"):
        make_client_context(TlsFiles(files.certificate, locked, authority.ca))


def test_archive_without_tls_is_a_failure_in_words(authority: Authority, archive: Archive) -> None:
    archive.start()
    caller = Caller("CT3D-EDGE", 3, make_client_context(authority.issue("node")))

    def failure() -> str:
        with pytest.raises(UnreachableError) as caught:
            caller.verify(archive.peer)
        return str(caught.value)

    wait_for(lambda: "TLS failed" in failure(), "a line that says TLS failed")
