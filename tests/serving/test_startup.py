"""Starting the command: port, files, configuration, model; each fault is a line with its reason."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import trustme
from builders import DOWNGRADE_ALL, MakeModel, MakeScan

from .conftest import MAIN, Server, Start, wait_until


def fail(*options: object, code: int = 2) -> str:
    """What a command that cannot start prints."""
    command = [sys.executable, "-c", MAIN, "serve", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_an_error_with_its_number(server: Server, make_model: MakeModel) -> None:
    printed = fail("--model", make_model(), "--port", server.port)
    assert f"Cannot listen on 127.0.0.1 port {server.port}: Address already in use." in printed
    assert "name another --port" in printed


def test_other_machines_are_refused_without_a_token(make_model: MakeModel) -> None:
    printed = fail("--model", make_model(), "--host", "0.0.0.0")  # noqa: S104
    assert "Give --token-file or --client-ca; --allow-anonymous" in printed


def test_an_expired_certificate_is_an_error_with_its_name(make_model: MakeModel, tmp_path: Path) -> None:
    path, now = tmp_path / "old.pem", datetime.now(UTC)
    made = trustme.CA().issue_cert("x", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    made.private_key_and_cert_chain_pem.write_to_path(path)
    assert "old.pem has expired. Renew it, then start again." in fail("--model", make_model(), "--tls-cert", path)
    assert "--tls-cert" in fail("--model", make_model(), "--client-ca", path)


def test_a_certificate_that_expires_soon_is_a_warning(start: Start, tmp_path: Path) -> None:
    made = trustme.CA().issue_cert("x", not_after=datetime.now(UTC) + timedelta(days=20))
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "soon.pem")
    server = start("--tls-cert", tmp_path / "soon.pem")
    assert "soon.pem expires on " in server.log
    assert server.stop() == 0


def test_a_model_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert "model.onnx" in fail("--model", tmp_path / "model.onnx", "--port", 0, code=3)
    assert "absent.onnx" in fail("--model", tmp_path / "absent.onnx", "--port", 0, code=3)


def test_a_folder_that_cannot_be_written_is_an_error(make_model: MakeModel, tmp_path: Path) -> None:
    printed = fail("--model", make_model(), "--port", 0, "--temp-dir", tmp_path / "absent")
    assert "Cannot write" in printed
    assert "absent/ct3d-serve-" in printed


def test_a_model_that_is_replaced_goes_on_and_the_log_says_so(
    start: Start, make_model: MakeModel, make_scan: MakeScan
) -> None:
    model, data = make_model("served.onnx"), make_scan().read_bytes()
    server = start(model=model)
    before = httpx.post(f"{server.url}/v1/scans", content=data).json()
    other = make_model("other.onnx", labels=("a", "b"))
    other.replace(model)
    server.wait_for_log("served.onnx was replaced; this server goes on with the model that it loaded")
    after = httpx.post(f"{server.url}/v1/scans", content=data).json()
    assert (after["probability"], after["model_sha256"]) == (before["probability"], before["model_sha256"])
    model.unlink()
    server.wait_for_log("served.onnx was removed")
    assert httpx.post(f"{server.url}/v1/scans", content=data).status_code == 200
    assert server.log.count("was replaced") == server.log.count("was removed") == 1


def test_options_come_from_a_file_and_the_command_line_wins(
    start_process: Start, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    make_model()
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o600)
    config = tmp_path / "edge.toml"
    codes = json.dumps(list(DOWNGRADE_ALL[1::2]))
    config.write_text(
        f'[shared]\nmodel = "tiny.onnx"\ndowngrade-check = {codes}\n'
        '[serve]\ntoken-file = "token"\nmodel-name = "lung"\nmax-upload = "100B"\nqueue-size = 3\n'
    )
    server = start_process("--config", config, "--max-upload", "5MB")
    assert "serving lung at" in server.log
    assert "3 may wait" in server.log
    headers = {"Authorization": "Bearer 0123456789abcdef"}
    answer = httpx.post(f"{server.url}/v1/scans", content=make_scan().read_bytes(), headers=headers)
    assert answer.status_code == 200
    assert httpx.get(f"{server.url}/v2").status_code == 401
    config.write_text('[serve]\nport = "eighty"\nqueue-sise = 3\n')
    printed = fail("--config", config)
    assert f"{config}:2: port in [serve]" in printed
    assert f"{config}:3: queue-sise" in printed
    assert "Did you mean queue-size?" in printed


def test_the_log_has_neither_names_nor_addresses(server: Server, make_scan: MakeScan) -> None:
    files = {"file": ("Doe^Jane.nii.gz", make_scan().read_bytes())}
    httpx.post(f"{server.url}/v1/scans?series_uid=1.2.840.77", files=files, headers={"User-Agent": "Doe"})
    httpx.get(f"{server.url}/patients/Doe?name=Jane")
    wait_until(lambda: "GET" in server.log or "(any) (none): 404" in server.log, "the log line")
    for private in ("Doe", "Jane", "1.2.840.77"):
        assert private not in server.log


def test_the_size_of_a_limit_must_be_one(make_model: MakeModel) -> None:
    for text in ("much", "0", "-1GB"):
        assert "--max-upload" in fail("--model", make_model(), f"--max-upload={text}")
