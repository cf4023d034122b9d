"""``/metrics``, read by the parser of prometheus_client."""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from builders import TINY_FEATURES, MakeModel, MakeScan
from numpy.typing import NDArray
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.quality_control.reference_stats import fit_feature_statistics

from .conftest import Server, Start


def read_metrics(server: Server) -> dict[str, Metric]:
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(server: Server, name: str, **labels: str) -> float:
    """The one sample of a name with these labels; 0 if there is none."""
    families = read_metrics(server).values()
    samples = [each for family in families for each in family.samples if each.name == name]
    found = [each.value for each in samples if labels.items() <= each.labels.items()]
    assert len(found) < 2, found
    return found[0] if found else 0.0


@pytest.fixture
def counted(start: Start) -> Server:
    return start("--model-name", "tiny")


def test_scans_are_counted_by_status_and_code_and_timed_by_stage(
    counted: Server, make_scan: MakeScan, hu: NDArray[np.int16]
) -> None:
    good, flat = make_scan().read_bytes(), make_scan("flat.nii", voxels=hu[:, :, :1]).read_bytes()
    bodies = (good, good, flat, b"nothing that is a scan")
    records = [httpx.post(f"{counted.url}/v1/scans", content=body).json() for body in bodies]
    assert value(counted, "ct3d_edge_scans_total", status=records[0]["status"], code="") == 2
    for record in records[2:]:
        code = record["error"]["code"]
        assert value(counted, "ct3d_edge_scans_total", status=record["status"], code=code) == 1
    for stage, least in {"receive": 4, "queue": 4, "read": 2, "preprocess": 2, "infer": 2}.items():
        assert value(counted, "ct3d_edge_stage_seconds_count", stage=stage) >= least
        assert value(counted, "ct3d_edge_stage_seconds_bucket", stage=stage, le="+Inf") >= least
    assert value(counted, "ct3d_edge_http_requests_total", route="/v1/scans", status="200", method="POST") == 2
    httpx.get(f"{counted.url}/no/such/path?name=Doe")
    httpx.request("PATIENT", f"{counted.url}/Doe")
    assert value(counted, "ct3d_edge_http_requests_total", route="(none)", status="404") >= 1
    assert "Doe" not in httpx.get(f"{counted.url}/metrics").text
    before = len(read_metrics(counted)["ct3d_edge_http_requests"].samples)
    for number in range(3):  # a client must not make a series for each method that it thinks of
        httpx.request(f"ABC{number}", f"{counted.url}/v1/scans")
    samples = read_metrics(counted)["ct3d_edge_http_requests"].samples
    assert len(samples) <= before + 2  # the other one is of GET /metrics
    assert {sample.labels["method"] for sample in samples} <= {"GET", "POST", "(any)"}


def test_tensors_queue_and_session_are_there(counted: Server) -> None:
    before = value(counted, "ct3d_edge_inferences_total")
    entry = {"name": "volume", "shape": [2, 16, 12, 8, 1], "datatype": "FP32", "data": [0.5] * 3072}
    assert httpx.post(f"{counted.url}/v2/models/tiny/infer", json={"inputs": [entry]}).status_code == 200
    assert value(counted, "ct3d_edge_inferences_total") == before + 2
    for name in ("ct3d_edge_queue_length", "ct3d_edge_requests_running", "ct3d_edge_requests_receiving"):
        assert value(counted, name) == 0
    assert value(counted, "ct3d_edge_session_healthy") == 1
    assert value(counted, "process_resident_memory_bytes") > 1e6


def test_the_model_and_its_session_are_labels(start: Start, make_model: MakeModel, tmp_path: Path) -> None:
    server = start("--run-report", tmp_path / "report.json")
    (sample,) = read_metrics(server)["ct3d_edge_model_info"].samples
    report = json.loads((tmp_path / "report.json").read_text())
    file = load_model_file(make_model())
    assert sample.labels["model_sha256"] == file.sha256 == report["model_sha256"]
    assert sample.labels["contract_sha256"] == file.contract.sha256
    assert (sample.labels["provider"], sample.labels["requested"]) == ("cpu", "cpu")
    assert sample.labels["onnxruntime"] == report["versions"]["onnxruntime"]


def test_scans_out_of_distribution_are_counted(
    start_process: Start, make_model: MakeModel, make_scan: MakeScan
) -> None:
    spread = np.random.default_rng(0).normal(1e3, 1e-3, (40, TINY_FEATURES))  # no scan has such features
    model = make_model(feature_statistics=fit_feature_statistics(spread[:30], spread[30:]))
    server = start_process("--model", model)
    record = httpx.post(f"{server.url}/v1/scans", content=make_scan().read_bytes()).json()
    assert "out_of_distribution" in [flag["code"] for flag in record["flags"]]
    assert value(server, "ct3d_edge_scans_out_of_distribution_total") == 1
    assert value(server, "ct3d_edge_scans_total", code="") == 1


def test_a_scan_like_those_of_training_is_not_counted(counted: Server, make_scan: MakeScan) -> None:
    httpx.post(f"{counted.url}/v1/scans", content=make_scan().read_bytes())
    assert value(counted, "ct3d_edge_scans_out_of_distribution_total") == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
def test_promtool_has_no_objection(counted: Server) -> None:
    text = httpx.get(f"{counted.url}/metrics").content
    command = [str(shutil.which("promtool")), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
