"""The Open Inference Protocol, as clients of Triton and KServe speak it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from builders import TRITON_CLIENT, MakeModel, PeerPython
from numpy.typing import NDArray

from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

from .conftest import Server, Start

SHAPE = (16, 12, 8)
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
def volume() -> NDArray[np.float32]:
    return make_phantom_volume(3, SHAPE)[None, ..., None]


@pytest.fixture
def expected(make_model: MakeModel, volume: NDArray[np.float32]) -> NDArray[np.float64]:
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        return runner.infer(volume[..., 0])


@pytest.fixture
def stored_model(make_model: MakeModel, tmp_path: Path) -> Path:
    """A model file that takes stored voxels."""
    path = tmp_path / "stored.onnx"
    path.write_bytes(fuse_io(load_model_file(make_model())).SerializeToString())
    return path


def described(volume: NDArray[Any], **changes: Any) -> dict[str, Any]:
    return {"name": "volume", "shape": list(volume.shape), "datatype": "FP32", **changes}


def infer(server: Server, body: Any, **options: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v2/models/tiny/infer", json=body, **options)


def infer_binary(server: Server, header: dict[str, Any], tensors: bytes, name: str = "tiny") -> httpx.Response:
    text = json.dumps(header).encode()
    url = f"{server.url}/v2/models/{name}/infer"
    return httpx.post(url, content=text + tensors, headers={LENGTH: str(len(text))})


def outputs(answer: httpx.Response) -> dict[str, NDArray[np.float64]]:
    """The outputs of a response in JSON."""
    assert answer.status_code == 200, answer.text
    return {each["name"]: np.reshape(each["data"], each["shape"]) for each in answer.json()["outputs"]}


def test_server_and_model_are_described(server: Server) -> None:
    assert httpx.get(f"{server.url}/v2").json()["extensions"] == ["binary_tensor_data"]
    for path in ("health/live", "health/ready"):
        answer = httpx.get(f"{server.url}/v2/{path}")
        assert (answer.status_code, answer.json()) == (200, {"live": True, "ready": True})
    for path in ("models/tiny", "models/tiny/versions/1"):
        found = httpx.get(f"{server.url}/v2/{path}").json()
        assert found["inputs"] == [{"name": "volume", "datatype": "FP32", "shape": [-1, 16, 12, 8, 1]}]
        assert [(each["name"], each["shape"]) for each in found["outputs"]] == [
            ("probabilities", [-1, 2]),
            ("probability", [-1, 1]),
        ]
        assert httpx.get(f"{server.url}/v2/{path}/ready").json() == {"name": "tiny", "ready": True}
    assert httpx.get(f"{server.url}/v2/models/other").status_code == 404
    assert httpx.get(f"{server.url}/v2/models/tiny/versions/2/ready").status_code == 404


@pytest.mark.parametrize("nested", [True, False])
def test_json_gives_probabilities_and_the_output_of_the_network(
    server: Server, volume: NDArray[np.float32], expected: NDArray[np.float64], nested: bool
) -> None:
    data = (volume if nested else volume.ravel()).tolist()
    answer = infer(server, {"id": "a1", "inputs": [described(volume, data=data)]})
    found = outputs(answer)
    assert (answer.json()["id"], answer.json()["model_name"], answer.json()["model_version"]) == ("a1", "tiny", "1")
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(found["probability"], expected[:, 1:], atol=1e-6)


def test_binary_tensors_in_and_out(server: Server, volume: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    two = np.concatenate([volume, volume * np.float32(0.5)])
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "probability"}]
    header = {"inputs": [described(two, parameters={"binary_data_size": two.nbytes})], "outputs": wanted}
    answer = infer_binary(server, header, two.tobytes())
    length = int(answer.headers[LENGTH])
    first, second = json.loads(answer.content[:length])["outputs"]
    assert first == {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [2, 2],
        "parameters": {"binary_data_size": 16},
    }
    rows = np.frombuffer(answer.content[length:], "<f4").reshape(2, 2)
    np.testing.assert_allclose(rows[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(second["data"], rows[:, 1], atol=1e-6)


def test_a_model_with_the_preprocessing_inside_takes_stored_voxels(
    start: Start, stored_model: Path, hu: NDArray[np.int16]
) -> None:
    server = start(model=stored_model)
    voxels = np.ascontiguousarray(hu.T)
    with Runner(load_model_file(stored_model, stored_voxels=True), SessionRequest("cpu")) as runner:
        expected = runner.infer_stored(voxels, 1.0, -24.0)
    scaling = [
        {"name": "slope", "shape": [1], "datatype": "FP32", "data": [1.0]},
        {"name": "intercept", "shape": [], "datatype": "FP32", "data": [-24]},
    ]
    entry = {"name": "voxels", "shape": list(voxels.shape), "datatype": "INT16"}
    text = {"inputs": [*scaling, {**entry, "data": voxels.ravel().tolist()}]}
    answer = httpx.post(f"{server.url}/v2/models/stored/infer", json=text)
    np.testing.assert_allclose(outputs(answer)["probabilities"], expected, atol=1e-6)
    binary = {"inputs": [*scaling, {**entry, "parameters": {"binary_data_size": voxels.nbytes}}]}
    answer = infer_binary(server, binary, voxels.tobytes(), "stored")
    np.testing.assert_allclose(outputs(answer)["probabilities"], expected, atol=1e-6)
    refused = httpx.post(f"{server.url}/v1/scans", content=b"x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "tensors_only")


@pytest.mark.parametrize("binary", [False, True])
def test_an_output_that_is_no_number_is_422(server: Server, binary: bool) -> None:
    volume = np.full((1, *SHAPE, 1), 3e38, np.float32)
    volume[:, ::2] *= -1
    entry = described(volume, parameters={"binary_data_size": volume.nbytes})
    answer = infer_binary(server, {"inputs": [entry], "parameters": {"binary_data_output": binary}}, volume.tobytes())
    assert (answer.status_code, answer.json()) == (422, {"error": "The network gave NaN or infinity for these inputs."})
    server.wait_for_log("non_finite_output")
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


REFUSED: dict[str, dict[str, Any]] = {
    "is FP32 of shape": {"shape": [1, 16, 12, 8]},
    "found INT16": {"datatype": "INT16"},
    "at most 32 network inputs": {"shape": [33, 16, 12, 8, 1]},
    "found 1,535 (float64)": {"data": [0.0] * 1535},
    "found 1 ": {"data": "text"},
    "found 1,536 (bool": {"data": [True] * 1536},
    "holds NaN or infinity": {"data": [1e40] * 1536},
    "takes 6,144 bytes": {"parameters": {"binary_data_size": 4}},
    "ends within": {"parameters": {"binary_data_size": 6144}},
    "shared_memory_region": {"parameters": {"shared_memory_region": "x"}},
    "takes the inputs volume": {"name": "volumes"},
    "no inference request": {"shape": [-1, 16, 12, 8, 1]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_input_of_the_model_is_refused_with_the_reason(server: Server, message: str) -> None:
    volume = np.zeros((1, *SHAPE, 1), np.float32)
    entry = {**described(volume, data=volume.ravel().tolist()), **REFUSED[message]}
    answer = infer(server, {"inputs": [entry]})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"inputs": 3}', b'{"inputs": []}', b"[" * 100_000, b'{"inputs":[{"name":"\xff"}]}', b"\0" * 9],
)
def test_what_is_no_request_is_refused(server: Server, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", content=body)
    assert answer.status_code in (400, 411)
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999", "+5", "0x10", "", "1" * 5000, "5, 5"])
def test_a_wrong_length_of_the_json_is_refused(server: Server, length: str) -> None:
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", content=b'{"inputs":[]}', headers={LENGTH: length})
    assert answer.status_code == 400
    assert LENGTH in answer.json()["error"]


def test_bytes_behind_the_last_tensor_are_refused(server: Server, volume: NDArray[np.float32]) -> None:
    header = {"inputs": [described(volume, parameters={"binary_data_size": volume.nbytes})]}
    answer = infer_binary(server, header, volume.tobytes() + b"x")
    assert answer.json()["error"] == "The body has 1 bytes after its last tensor."


CLIENT = """
import sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

port, name, binary, path = sys.argv[1:]
arrays = np.load(path)
client = triton.InferenceServerClient(f"127.0.0.1:{port}")
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
assert client.get_server_metadata()["name"] == "ct3d-edge"
described = {each["name"]: each["datatype"] for each in client.get_model_metadata(name)["inputs"]}
inputs = []
for key, datatype in described.items():
    inputs.append(triton.InferInput(key, list(arrays[key].shape), datatype))
    inputs[-1].set_data_from_numpy(arrays[key], binary_data=binary == "binary")
for outputs in (None, [triton.InferRequestedOutput("probabilities", binary_data=binary == "binary")]):
    found = client.infer(name, inputs, outputs=outputs, request_id="7")
    assert found.get_response()["id"] == "7"
    print(*found.as_numpy("probabilities").ravel())
try:
    client.infer(name, inputs, outputs=[triton.InferRequestedOutput("logits")])
except InferenceServerException as error:
    print(error.status(), error.message())
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["binary", "json"])
def test_the_client_of_triton_works_unchanged(
    server: Server,
    volume: NDArray[np.float32],
    expected: NDArray[np.float64],
    peer_python: PeerPython,
    tmp_path: Path,
    form: str,
) -> None:
    lines = call_triton(peer_python(TRITON_CLIENT), server, "tiny", form, tmp_path / "arrays.npz", volume=volume)
    for line in lines[:2]:
        np.testing.assert_allclose(np.array(line.split(), float), expected[0], atol=1e-6)
    assert lines[2] == "400 The model gives probabilities, probability; ['logits'] was requested."


@pytest.mark.slow
@pytest.mark.parametrize("form", ["binary", "json"])
def test_the_client_of_triton_sends_stored_voxels(
    start: Start, stored_model: Path, hu: NDArray[np.int16], peer_python: PeerPython, tmp_path: Path, form: str
) -> None:
    voxels, slope, intercept = np.ascontiguousarray(hu.T), np.array([1], np.float32), np.array([-24], np.float32)
    with Runner(load_model_file(stored_model, stored_voxels=True), SessionRequest("cpu")) as runner:
        expected = runner.infer_stored(voxels, 1.0, -24.0)
    arrays: dict[str, NDArray[Any]] = {"voxels": voxels, "slope": slope, "intercept": intercept}
    python = peer_python(TRITON_CLIENT)
    lines = call_triton(python, start(model=stored_model), "stored", form, tmp_path / "arrays.npz", **arrays)
    np.testing.assert_allclose(np.array(lines[0].split(), float), expected, atol=1e-6)


def call_triton(python: Path, server: Server, name: str, form: str, path: Path, **arrays: NDArray[Any]) -> list[str]:
    """What the client prints: probabilities twice, then an error."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    command = [str(python), "-c", CLIENT, str(server.port), name, form, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
