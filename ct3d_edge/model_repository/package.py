"""Writes the folder that a model server loads: model, configuration, labels, warm-up request, README."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.model_repository.readme import format_readme
from ct3d_edge.model_repository.triton_config import DeviceKind, ServedTensor, format_config, read_tensors
from ct3d_edge.modelfile.golden_input import BLEND_STEPS
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.modelfile.signature import INTERCEPT_INPUT, SLOPE_INPUT, to_stored_voxels
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test
from ct3d_edge.system.atomic_write import atomic_file, make_folder

ModelServer = Literal["triton", "ovms", "kserve"]

MAX_OPSET, MAX_IR = 26, 13
"""The newest that ONNX Runtime 1.27.0 loads, which Triton 26.09 is built with: models of one node, tried with both
numbers rising."""

GPU_TARGETS = ("cuda", "tensorrt")
"""Targets of `export` and `optimize` that are made for a GPU."""


@dataclass(frozen=True)
class ModelRepository:
    """What was written.

    Parameters
    ----------
    folder
        The repository: a model server is started on it.
    name
        Of the model in it.
    expected
        Values of the model's output for the warm-up request, in the order of the output.
    """

    folder: Path
    name: str
    expected: tuple[float, ...]


def package_model(
    model: Path,
    out: Path,
    server: ModelServer,
    *,
    name: str | None = None,
    device: DeviceKind | None = None,
    threads: int = 0,
) -> ModelRepository:
    """Write a model repository for a server, after the file's golden test has passed on this machine.

    Parameters
    ----------
    out
        A folder that does not exist or is empty.
    name
        Of the model in requests; the file's name without ending if None.
    device
        Where the server runs it; what the file was made for if None.
    threads
        Of one run on the CPU; 0 leaves the number to ONNX Runtime.

    Raises
    ------
    UsageError
        The name is not one for a model, or ``out`` holds files.
    ModelError, ContractError
        It is no model file, or newer than what the server's ONNX Runtime reads.
    CheckFailedError
        The golden test does not pass.
    """
    file = load_model_file(model, stored_voxels=True)
    name = _checked_name(name or re.sub(r"[^A-Za-z0-9_-]+", "_", model.stem))
    _require_empty(out)
    proto = onnx.ModelProto.FromString(file.data)
    _require_readable(file, proto)
    request = _make_request(file)
    expected = _run(file, proto, request)
    _write_tree(out, name, file, proto, request, device or _device_of(file), threads)
    if server == "ovms":
        _write_ovms_config(out, name, device or _device_of(file))
    if server == "kserve":
        _write(out / "inferenceservice.yaml", format_inference_service(name, device or _device_of(file)))
    (values,) = [tensor.tolist() for tensor in expected]
    _write(out / "README.md", format_readme(server, name, file, _request_header(request, file.output_name), values))
    return ModelRepository(out, name, tuple(values))


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", name):
        raise UsageError(f"A model's name has letters, digits, '_' and '-', 100 at most; `name=` is {name!r}.")
    return name


def _require_empty(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists and is no empty folder. Name another, or remove it.")


def _require_readable(file: ModelFile, proto: onnx.ModelProto) -> None:
    """Refuse what the server could not load; it would fail only on its own machine."""
    if file.opset > MAX_OPSET or proto.ir_version > MAX_IR:
        raise ModelError(
            f"{file.path} has opset {file.opset} and IR version {proto.ir_version}; ONNX Runtime 1.27 of the "
            f"servers reads {MAX_OPSET} and {MAX_IR} at most. Export the model with an older tf2onnx."
        )


def _device_of(file: ModelFile) -> DeviceKind:
    return "gpu" if file.optimized[1] in GPU_TARGETS else "cpu"


def _make_request(file: ModelFile) -> dict[str, NDArray[Any]]:
    """The first golden input under the names of the graph."""
    volume = file.golden.volumes(file.contract.shape)[0]
    if not file.stored_voxels:
        return {file.input_name: volume.reshape(1, *file.contract.input_shape)}
    voxels, slope, intercept = to_stored_voxels(volume, file.contract, BLEND_STEPS)
    scaling = {SLOPE_INPUT: np.array(slope, np.float32), INTERCEPT_INPUT: np.array(intercept, np.float32)}
    return {file.input_name: voxels, **scaling}


def _run(file: ModelFile, proto: onnx.ModelProto, request: Mapping[str, Any]) -> list[NDArray[np.float32]]:
    """The model's output for the request, flat, after the golden test has passed."""
    with Runner(file, SessionRequest("cpu")) as runner:
        outcome = run_golden_test(runner)
    if not outcome.passed:
        raise CheckFailedError(
            f"The golden test of {file.path} does not pass here: {'; '.join(outcome.describe('cpu'))}. Nothing written."
        )
    return [value.ravel() for _, value in IntermediateOutputs(proto, [file.output_name]).tensors(request)]


def _write_tree(
    out: Path,
    name: str,
    file: ModelFile,
    proto: onnx.ModelProto,
    request: Mapping[str, NDArray[Any]],
    device: DeviceKind,
    threads: int,
) -> None:
    """NAME/1/model.onnx and beside it what Triton reads; OpenVINO Model Server takes the same and ignores the rest."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = read_tensors(value for value in proto.graph.input if value.name not in weights)
    outputs = read_tensors(proto.graph.output)
    home = out / name
    for folder in (home / "1", home / "warmup"):
        make_folder(folder)
    shutil.copyfile(file.path, home / "1" / "model.onnx")
    _write(home / "labels.txt", "\n".join(file.contract.labels) + "\n")
    _write(home / "contract.json", file.contract.to_json() + "\n")
    for tensor, value in request.items():
        _write(home / "warmup" / tensor, np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes())
    _write(home / "warmup" / "request.json", json.dumps(_request_header(request, file.output_name)))
    warmup: list[tuple[ServedTensor, tuple[int, ...]]] = [(each, request[each.name].shape) for each in inputs]
    _write(home / "config.pbtxt", format_config(name, file, inputs, outputs, warmup, device, threads))


def _request_header(request: Mapping[str, NDArray[Any]], output: str) -> dict[str, Any]:
    """The JSON part of the request with binary tensors behind it (Open Inference Protocol, `binary_tensor_data`)."""
    kinds = {"float32": "FP32", "int16": "INT16"}
    inputs = [
        {
            "name": name,
            "shape": list(value.shape) or [1],
            "datatype": kinds[str(value.dtype)],
            "parameters": {"binary_data_size": value.nbytes},
        }
        for name, value in request.items()
    ]
    return {"inputs": inputs, "outputs": [{"name": output, "parameters": {"binary_data": False}}]}


def _write_ovms_config(out: Path, name: str, device: DeviceKind) -> None:
    """For ``ovms --config_path``; paths are those inside the container, with the repository at /models."""
    entry = {"name": name, "base_path": f"/models/{name}", "target_device": device.upper()}
    _write(out / "config.json", json.dumps({"model_config_list": [{"config": entry}]}, indent=2) + "\n")


def format_inference_service(name: str, device: DeviceKind) -> str:
    """KServe's resource for its Triton runtime, which loads the repository at ``storageUri``."""
    gpu = '        limits:\n          nvidia.com/gpu: "1"\n' if device == "gpu" else ""
    service = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")  # RFC 1123
    return (
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata:\n"
        f"  name: {service}\nspec:\n  predictor:\n    model:\n"
        "      modelFormat:\n        name: onnx\n      runtime: kserve-tritonserver\n      protocolVersion: v2\n"
        "      storageUri: pvc://CLAIM/FOLDER  # where this folder is\n"
        "      resources:\n        requests:\n          memory: 2Gi\n" + gpu
    )


def _write(path: Path, content: str | bytes) -> None:
    with atomic_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
