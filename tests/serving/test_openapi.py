"""The OpenAPI document: valid, complete, and true of the answers."""

import json
import subprocess
from typing import Any

import httpx
import pytest
from builders import MakeScan, PeerPython

from .conftest import Server

VALIDATE = "import json, sys; from openapi_spec_validator import validate; validate(json.load(sys.stdin))"


@pytest.fixture
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/openapi.json").json()
    return found


@pytest.mark.slow
def test_an_independent_validator_accepts_it(document: dict[str, Any], peer_python: PeerPython) -> None:
    python = peer_python("openapi-spec-validator")
    done = subprocess.run(
        [python, "-c", VALIDATE], input=json.dumps(document), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_described_path_is_there_and_no_other_method(server: Server, document: dict[str, Any]) -> None:
    assert "/v1/scans" in document["paths"]
    for path, operations in document["paths"].items():
        address = server.url + path.format(model="tiny", version="1")
        for method in operations:
            assert httpx.request(method, address).status_code not in (404, 405), path
        other = "DELETE"
        refused = httpx.request(other, address)
        assert refused.status_code == 405, path
        assert set(map(str.upper, operations)) <= set(refused.headers["allow"].split(", "))


def test_the_answers_are_those_described(server: Server, document: dict[str, Any], make_scan: MakeScan) -> None:
    described = document["paths"]["/v1/scans"]["post"]["responses"]
    required = document["components"]["schemas"]["Record"]["required"]
    good = httpx.post(f"{server.url}/v1/scans", content=make_scan().read_bytes())
    bad = [
        httpx.post(f"{server.url}/v1/scans", content=b"x"),
        httpx.post(f"{server.url}/v1/scans?x=1", content=b"x"),
        httpx.post(f"{server.url}/v1/scans", content=bytes(3_000_000)),
        httpx.post(f"{server.url}/v1/scans", content=b"x", headers={"Content-Encoding": "gzip"}),
        httpx.post(f"{server.url}/v1/scans?output=gradcam", content=b"x"),
    ]
    assert set(required) <= good.json().keys()
    assert [answer.status_code for answer in bad] == [422, 400, 413, 415, 501]
    for answer in (good, *bad):
        assert str(answer.status_code) in described
        assert answer.headers["content-type"].split(";")[0] in described[str(answer.status_code)]["content"]
    for answer in bad:
        assert answer.json()["error"].keys() >= {"code", "message"}
