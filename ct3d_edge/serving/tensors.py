"""Tensors of the Open Inference Protocol, as JSON or with its binary extension.

A request is a JSON object with ``inputs``; with the header ``Inference-Header-Content-Length`` the JSON has that many
bytes, and the data of inputs with the parameter ``binary_data_size`` follow it in their order, little-endian.
Sources: open-inference-protocol, specification/protocol/inference_rest.md; Triton, docs/protocol/extension_binary_data.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.serving.request_error import RequestError

DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT16": np.dtype("<i2")}
"""By the protocol's names."""

MAX_JSON_BYTES = 128 << 20
"""As JSON, 58 MB are one stored scan; parsed, it takes ten times the memory."""

NOT_SUPPORTED = ("shared_memory_region", "classification")
"""Parameters of further extensions."""

Size = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class TensorSpec:
    """Name, datatype and shape of a tensor; -1 is any length, of the first axis at most ``max_batch``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    max_batch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the model's metadata hold it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def require(self, datatype: str, shape: Sequence[int]) -> None:
        """Refuse a tensor of another datatype or shape."""
        matching = len(shape) == len(self.shape) and all(
            found == length or (length == -1 and found > 0) for found, length in zip(shape, self.shape, strict=True)
        )
        if datatype != self.datatype or not matching:
            raise _bad_request(
                f"The input {self.name} is {self.datatype} of shape {list(self.shape)}; "
                f"found {datatype[:20]} of shape {list(shape)[:10]}."
            )
        if self.max_batch and shape[0] > self.max_batch:
            raise _bad_request(f"A request holds at most {self.max_batch} network inputs, found {shape[0]}.")


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: Annotated[list[Size], msgspec.Meta(max_length=10)]
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A parsed request.

    Parameters
    ----------
    id
        Of the client's choice; the response has it too.
    tensors
        One for each input of the model, by name.
    binary_outputs
        Whether each of the requested outputs follows the JSON of the response, by name.
    """

    id: str
    tensors: dict[str, NDArray[Any]]
    binary_outputs: dict[str, bool]


def read_request(
    body: Path, json_length: str | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> InferRequest:
    """Parse the body of a request.

    Parameters
    ----------
    body
        File with the body.
    json_length
        Value of the header ``Inference-Header-Content-Length``; None if the whole body is JSON.
    inputs, outputs
        Of the model.

    Raises
    ------
    RequestError
        400 or 413, with what was expected and found.
    """
    total = body.stat().st_size
    length = total if json_length is None else _parse_length(json_length, total)
    with body.open("rb") as stream:
        request = _decode_json(stream, length)
        _require_names([tensor.name for tensor in request.inputs], [spec.name for spec in inputs])
        specs = {spec.name: spec for spec in inputs}
        tensors = {tensor.name: _read_tensor(tensor, specs[tensor.name], stream) for tensor in request.inputs}
        if stream.read(1):
            raise _bad_request(f"The body has {total - stream.tell() + 1:,} bytes after its last tensor.")
    return InferRequest(request.id, tensors, _binary_outputs(request, [spec.name for spec in outputs]))


def write_response(
    model: str, version: str, request: InferRequest, outputs: Mapping[str, NDArray[np.float32]]
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if tensors follow it.

    Raises
    ------
    RequestError
        422 ``non_finite_output`` if the network gave NaN or infinity, which JSON has no numbers for.
    """
    if not all(np.isfinite(outputs[name]).all() for name in request.binary_outputs):
        raise RequestError(422, "non_finite_output", "The network gave NaN or infinity for these inputs.")
    described, binary = [], []
    for name, as_binary in request.binary_outputs.items():
        array = np.ascontiguousarray(outputs[name], DTYPES["FP32"])
        entry: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
        if as_binary:
            binary.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": array.nbytes}
        else:
            entry["data"] = array.ravel().tolist()
        described.append(entry)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id:
        answer["id"] = request.id
    text = json.dumps(answer, allow_nan=False).encode()
    return b"".join([text, *binary]), len(text) if binary else None


def _parse_length(text: str, total: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= total):
        raise _bad_request(
            f"Inference-Header-Content-Length is the length of the JSON, at most {total}; found {text[:30]!r}."
        )
    return int(text)


def _decode_json(stream: BinaryIO, length: int) -> _Request:
    if length > MAX_JSON_BYTES:
        raise RequestError(
            413,
            "json_too_large",
            f"The JSON has {length:,} bytes, at most {MAX_JSON_BYTES:,} are read; send binary data.",
        )
    try:
        return msgspec.json.decode(stream.read(length), type=_Request)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _bad_request(f"The JSON is no inference request: {error}.") from error


def _require_names(found: list[str], wanted: list[str]) -> None:
    if sorted(found) != sorted(wanted):
        raise _bad_request(f"The model takes the inputs {', '.join(wanted)}, once each; found {found!r:.200}.")


def _read_tensor(tensor: _Input, spec: TensorSpec, stream: BinaryIO) -> NDArray[Any]:
    for name in NOT_SUPPORTED:
        if name in tensor.parameters:
            raise _bad_request(f"The parameter {name} of {spec.name} is not supported.")
    # A scalar may come without an axis, as ONNX has it.
    shape = [1] if spec.shape == (1,) and tensor.shape == [] else tensor.shape
    spec.require(tensor.datatype, shape)
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        values = _decode_values(tensor.data, spec, math.prod(shape))
    else:
        values = _read_binary(stream, size, spec, math.prod(shape))
    if not np.isfinite(values).all():
        raise _bad_request(f"The input {spec.name} holds NaN or infinity.")
    return values.reshape(shape)


def _read_binary(stream: BinaryIO, size: object, spec: TensorSpec, count: int) -> NDArray[Any]:
    dtype = DTYPES[spec.datatype]
    if size != count * dtype.itemsize or isinstance(size, bool):
        raise _bad_request(
            f"The input {spec.name} takes {count * dtype.itemsize:,} bytes; its binary_data_size is {size!r:.30}."
        )
    values = np.fromfile(stream, dtype, count)
    if len(values) < count:
        raise _bad_request(f"The body ends within the input {spec.name}: {values.nbytes:,} of {size:,} bytes.")
    return values


def _decode_values(data: msgspec.Raw, spec: TensorSpec, count: int) -> NDArray[Any]:
    """Values of JSON, flat or nested."""
    try:
        values = np.array(msgspec.json.decode(data) if bytes(data) else [])
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
        raise _bad_request(f"The data of {spec.name} cannot be read: {error}.") from error
    dtype = DTYPES[spec.datatype]
    if values.size != count or values.dtype.kind not in ("iu" if dtype.kind == "i" else "iuf"):
        raise _bad_request(
            f"The data of {spec.name} are {count:,} values of {spec.datatype}; found {values.size:,} "
            f"({values.dtype.name})."
        )
    if dtype.kind == "i" and count and not (np.iinfo(dtype).min <= values.min() <= values.max() <= np.iinfo(dtype).max):
        raise _bad_request(f"The data of {spec.name} do not fit {spec.datatype}.")
    with np.errstate(over="ignore"):  # infinity is refused by the caller
        return values.ravel().astype(dtype)


def _binary_outputs(request: _Request, names: list[str]) -> dict[str, bool]:
    """The outputs that were requested, all by default, and whether each is to be binary."""
    default = bool(request.parameters.get("binary_data_output", False))
    if not request.outputs:
        return dict.fromkeys(names, default)
    asked = [output.name for output in request.outputs]
    if unknown := set(asked) - set(names):
        raise _bad_request(f"The model gives {', '.join(names)}; {sorted(unknown)!r:.200} was requested.")
    for output in request.outputs:
        for name in NOT_SUPPORTED:
            if output.parameters.get(name):
                raise _bad_request(f"The parameter {name} of {output.name} is not supported.")
    return {output.name: bool(output.parameters.get("binary_data", default)) for output in request.outputs}


def _bad_request(message: str) -> RequestError:
    return RequestError(400, "bad_request", message)
