"""Try one provider in a process of its own: ``python -m ct3d_edge.doctor.smoke_test cuda`` prints the outcome as JSON.

A provider that cannot be used may end its process without an exception; the calling process must survive that.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ct3d_edge.doctor.smoke_test_process import ProviderStatus
from ct3d_edge.errors import ProviderError
from ct3d_edge.providers.availability import find_provider_issue, get_provider
from ct3d_edge.providers.names import PROVIDERS, ProviderName
from ct3d_edge.providers.options import parse_options
from ct3d_edge.providers.shared_libraries import linked_libraries
from ct3d_edge.session.run_report import detect_platform
from ct3d_edge.session.session import SessionConfig, SessionRefused, node_placement, open_session

VERSION_CHECKED_LIBRARIES = ("cublas", "cudart", "cudnn", "nvinfer", "nvonnxparser")
"""Libraries whose major version must be the one that was linked; a mismatch is reported even if the provider works."""


@dataclass(frozen=True)
class SmokeTestResult(ProviderStatus):
    """What the process that tries a provider prints; `ProviderStatus.from_smoke_test` reads it.

    Parameters
    ----------
    links
        Libraries its code links that are missing or whose version matters, with where they were found.
    """

    links: tuple[dict[str, Any], ...] = ()


def run_smoke_test(name: ProviderName) -> SmokeTestResult:
    """Look at a provider and let it run the tiny network."""
    candidate = get_provider(name)
    there = candidate.compiled_in or bool(candidate.plugin and candidate.plugin.installed)
    obstacle = find_provider_issue(candidate)
    links = _links(name)
    if obstacle:
        return SmokeTestResult(
            name, there, False, False, obstacle.reason, obstacle.missing, obstacle.remedy, links=links
        )
    begin = time.perf_counter()
    try:
        difference = _run_network(name)
    except (ProviderError, SessionRefused) as error:
        return SmokeTestResult(
            name, there, True, False, str(error), links=links, versions=detect_platform(name).versions
        )
    return SmokeTestResult(
        name,
        there,
        True,
        difference <= TOLERANCE,
        f"difference from NumPy {difference:.1e}, at most {TOLERANCE:.0e} is right",
        difference=difference,
        milliseconds=(time.perf_counter() - begin) * 1e3,
        links=links,
        versions=detect_platform(name).versions,
    )


def _run_network(name: ProviderName) -> float:
    """Largest difference between the provider's output and NumPy's; infinite for NaN."""
    config = SessionConfig(get_provider(name), parse_options(name), threads=1)
    session = open_session(build_test_network(), config)
    node_placement(session, config.candidate, allow_fallback=False)
    volume = make_test_input()
    try:
        (found,) = session.run(None, {"volume": volume})
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise SessionRefused(f"it failed while running: {error}") from error
    difference = float(np.abs(np.asarray(found).ravel() - expected_output(volume)).max())
    return difference if np.isfinite(difference) else float("inf")


def _links(name: ProviderName) -> tuple[dict[str, Any], ...]:
    path = get_provider(name).library_path
    linked = linked_libraries(path) if path and path.is_file() else []
    return tuple(
        asdict(link) for link in linked if not link.path or any(part in link.name for part in VERSION_CHECKED_LIBRARIES)
    )


TEST_INPUT_SHAPE = (1, 1, 10, 8, 6)
"""Of its input: batch, channel, and three axes of different lengths, so that none can stand for another."""

TOLERANCE = 1e-2
"""Largest difference that passes. Answers are about 1; TF32, where a library insists on it, may cost some 1e-3."""


def make_test_input() -> NDArray[np.float32]:
    """``TEST_INPUT_SHAPE`` float32."""
    return np.random.default_rng(1).normal(0, 1, TEST_INPUT_SHAPE).astype(np.float32)


def build_test_network() -> bytes:
    """An ONNX file: three-dimensional convolution, ReLU, max pooling, mean over each of four channels."""
    kernel, bias = _weights()
    nodes = [
        helper.make_node("Conv", ["volume", "kernel", "bias"], ["convolved"], name="conv"),
        helper.make_node("Relu", ["convolved"], ["positive"], name="relu"),
        helper.make_node("MaxPool", ["positive"], ["pooled"], name="pool", kernel_shape=[2] * 3, strides=[2] * 3),
        helper.make_node("GlobalAveragePool", ["pooled"], ["mean"], name="mean"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, TEST_INPUT_SHAPE)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, (1, len(kernel), 1, 1, 1))],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def expected_output(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """The output of the network, ``(channel,)``, by its definition."""
    kernel, bias = _weights()
    windows = sliding_window_view(volume[0, 0].astype(np.float64), kernel.shape[2:])
    convolved = np.einsum("xyzijk,cijk->cxyz", windows, kernel[:, 0]) + bias[:, None, None, None]
    pools = sliding_window_view(np.maximum(convolved, 0), (2, 2, 2), axis=(1, 2, 3))[:, ::2, ::2, ::2]
    return np.asarray(pools.max(axis=(4, 5, 6)).mean(axis=(1, 2, 3)))


def _weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel ``(4, 1, 3, 3, 3)`` and bias ``(4,)``."""
    draw = np.random.default_rng(0)
    return draw.normal(0, 0.3, (4, 1, 3, 3, 3)).astype(np.float32), draw.normal(0, 0.3, 4).astype(np.float32)


def main() -> None:
    """Probe the provider named on the command line; only the answer goes to standard output."""
    answer = os.dup(1)
    os.dup2(2, 1)  # native libraries print what they like
    (name,) = [known for known in PROVIDERS if known == sys.argv[1]]
    with os.fdopen(answer, "w") as stream:
        stream.write(json.dumps(run_smoke_test(name).to_dict()))


if __name__ == "__main__":
    main()
