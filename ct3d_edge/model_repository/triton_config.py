"""``config.pbtxt`` of a model for NVIDIA Triton's ONNX Runtime backend.

The fields are those of Triton's ``model_config.proto``; the rules for batching and scalars are those of its ONNX
Runtime backend (server repository ``onnxruntime_backend``, README "Model Config Options" and ``src/onnxruntime.cc``).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx

from ct3d_edge.modelfile.model_file import ModelFile

DeviceKind = Literal["cpu", "gpu"]

GPU_BATCH = 8
"""Scans that Triton may put into one run on a GPU, within ``GPU_QUEUE_DELAY`` microseconds."""

GPU_QUEUE_DELAY = 2000


@dataclass(frozen=True)
class ServedTensor:
    """An input or output as the server declares it.

    Parameters
    ----------
    name
        In the graph.
    dtype
        Open Inference Protocol name: ``FP32`` or ``INT16``.
    shape
        -1 for an open axis; the batch axis included. A scalar has none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def dims(self, *, batched: bool) -> tuple[int, ...]:
        """Shape for ``config.pbtxt``: without the batch axis that ``max_batch_size`` implies; ``(1,)`` for a scalar.

        Empty dims are not allowed, and the backend makes a rank-0 tensor of ``dims: [ 1 ]`` without a reshape.
        """
        return self.shape[1:] if batched else self.shape or (1,)


DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.INT16: "INT16"}
"""What model files have at their ends."""


def read_tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[ServedTensor, ...]:
    """Inputs or outputs of a graph."""
    return tuple(
        ServedTensor(
            value.name,
            DTYPES[value.type.tensor_type.elem_type],
            tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def format_config(
    name: str,
    model: ModelFile,
    inputs: Sequence[ServedTensor],
    outputs: Sequence[ServedTensor],
    warmup: Sequence[tuple[ServedTensor, tuple[int, ...]]],
    device: DeviceKind,
    threads: int,
) -> str:
    """The text of ``config.pbtxt``.

    Parameters
    ----------
    inputs, outputs
        Of the graph.
    warmup
        Each input and the shape of its value in the warm-up request, whose bytes are in ``warmup/NAME``.
    threads
        Of one run on the CPU; 0 leaves the number to ONNX Runtime.
    """
    batch = _max_batch_size(model, device)
    lines = [f"name: {json.dumps(name)}", 'backend: "onnxruntime"', f"max_batch_size: {batch}"]
    lines += _block("input", [_tensor(each, batch > 0) for each in inputs])
    classes = len(model.contract.labels)
    lines += _block("output", [_tensor(each, batch > 0, labels=each.shape[-1] == classes) for each in outputs])
    kind = "KIND_GPU" if device == "gpu" else "KIND_CPU"
    lines.append(f"instance_group [ {{ count: 1 kind: {kind} }} ]")
    if device == "cpu":
        lines.append(f'parameters {{ key: "intra_op_thread_count" value: {{ string_value: "{threads}" }} }}')
    elif batch > 1:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {GPU_QUEUE_DELAY} }}")
    entries = [_warmup_input(each, shape, batch > 0) for each, shape in warmup]
    lines += _block("model_warmup", [f'name: "golden input" batch_size: 1 {" ".join(entries)}'])
    return "\n".join(lines) + "\n"


def _max_batch_size(model: ModelFile, device: DeviceKind) -> int:
    """0 where the graph has no open batch axis.

    Never left out: of a file with an open batch axis Triton would take 4 and batch scans by itself, which makes a
    graph that is tiled for the cache of a CPU slower.
    """
    if model.batch_axis is None:
        return 0
    return GPU_BATCH if device == "gpu" else 1


def _block(name: str, entries: Sequence[str]) -> list[str]:
    return [f"{name} [", *(f"  {{ {entry} }}{',' if entry is not entries[-1] else ''}" for entry in entries), "]"]


def _tensor(tensor: ServedTensor, batched: bool, *, labels: bool = False) -> str:
    text = f"name: {json.dumps(tensor.name)} data_type: TYPE_{tensor.dtype} dims: {_dims(tensor.dims(batched=batched))}"
    return f'{text} label_filename: "labels.txt"' if labels else text


def _warmup_input(tensor: ServedTensor, shape: tuple[int, ...], batched: bool) -> str:
    dims = shape[1:] if batched else shape or (1,)
    value = f'data_type: TYPE_{tensor.dtype} dims: {_dims(dims)} input_data_file: "{tensor.name}"'
    return f"inputs {{ key: {json.dumps(tensor.name)} value: {{ {value} }} }}"


def _dims(dims: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"
