"""How long each operator of a session takes, by ONNX Runtime's own profiler."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import ProviderError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.options import Options
from ct3d_edge.session.provider_selection import SessionRequest, select_and_open

KERNEL_TIME_SUFFIX = "_kernel_time"
WARMUP_RUNS = 2
"""Runs that are not counted: the first one allocates."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NodeTimes:
    """One node of the graph that ONNX Runtime made of the model's.

    Parameters
    ----------
    name, operator
        ONNX Runtime's, after its own fusions.
    inputs, outputs
        Shapes.
    input_bytes, output_bytes
        Tensors and weights that go in, tensors that come out.
    times
        In ms, one a run; of a node that runs several times a run, their sum.
    """

    name: str
    operator: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    input_bytes: int
    output_bytes: int
    times: tuple[float, ...]


@dataclass(frozen=True)
class NodeProfile:
    """Runs of a session with the profiler on.

    Parameters
    ----------
    nodes
        In the order in which they ran.
    runs
        Duration of each run in ms, from call to output inside ONNX Runtime.
    """

    nodes: tuple[NodeTimes, ...]
    runs: tuple[float, ...]


def profile_nodes(
    model: ModelFile,
    volume: NDArray[np.float32],
    runs: int,
    *,
    threads: int | None = None,
    options: Options | None = None,
) -> NodeProfile:
    """Run one volume again and again on the CPU provider.

    On a GPU the profiler would see when kernels were started, not how long they took.

    Parameters
    ----------
    volume
        A network input, ``contract.shape`` float32.
    runs
        Counted runs.
    threads, options
        As ``Runner`` takes them.

    Raises
    ------
    ProviderError
        If ONNX Runtime fails, or writes no profile.
    """
    batch = volume.reshape(1, *model.contract.input_shape)
    with TemporaryDirectory() as folder:
        request = SessionRequest("cpu", threads=threads, options=options, profile=str(Path(folder, "profile")))
        session = select_and_open(model, request).session
        try:
            for _ in range(WARMUP_RUNS + runs):
                session.run([model.output_name], {model.input_name: batch})
            written = Path(session.end_profiling())
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ProviderError(f"ONNX Runtime failed on cpu while running: {error}") from error
        events: list[dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))
    return parse_events(events)


def parse_events(events: Iterable[Mapping[str, Any]]) -> NodeProfile:
    """The counted runs in what the profiler wrote; events of a run stand before the run's own.

    Raises
    ------
    ProviderError
        If there is no counted run in it.
    """
    runs: list[float] = []
    seen: list[list[Mapping[str, Any]]] = [[]]
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith(KERNEL_TIME_SUFFIX):
            seen[-1].append(event)
        elif event.get("name") == "model_run":
            runs.append(event["dur"] / 1000)
            seen.append([])
    counted = seen[WARMUP_RUNS : len(runs)]
    if not counted or not all(counted):
        raise ProviderError("ONNX Runtime's profiler wrote no times of operators.")
    return NodeProfile(tuple(_nodes(counted)), tuple(runs[WARMUP_RUNS:]))


def _nodes(runs: list[list[Mapping[str, Any]]]) -> Iterable[NodeTimes]:
    times = [_sum_times(events) for events in runs]
    for key, event in {_key(event): event for event in runs[0]}.items():
        facts = event["args"]
        yield NodeTimes(
            str(event["name"]).removesuffix(KERNEL_TIME_SUFFIX),
            str(facts["op_name"]),
            _shapes(facts["input_type_shape"]),
            _shapes(facts["output_type_shape"]),
            int(facts["activation_size"]) + int(facts["parameter_size"]),
            int(facts["output_size"]),
            tuple(of_run.get(key, 0.0) for of_run in times),
        )


def _sum_times(events: list[Mapping[str, Any]]) -> dict[str, float]:
    taken: dict[str, float] = {}
    for event in events:
        taken[_key(event)] = taken.get(_key(event), 0.0) + event["dur"] / 1000
    return taken


def _key(event: Mapping[str, Any]) -> str:
    """Names need not be unique; ONNX Runtime numbers its nodes."""
    return f"{event['args'].get('node_index', '')} {event['name']}"


def _shapes(entries: Iterable[Mapping[str, list[int]]]) -> tuple[Shape, ...]:
    return tuple(tuple(shape) for entry in entries for shape in entry.values())
