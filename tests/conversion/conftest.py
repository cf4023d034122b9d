"""Tiny Keras networks, each converted once in a session."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import KERAS, SHAPE, SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.contract import Contract

# The root conftest says so aloud.
collect_ignore_glob = [] if KERAS else ["test_*.py", "parity/test_*.py"]


@pytest.fixture(scope="session")
def convert_once() -> Iterator[None]:
    """Let `export_model` take a network that was converted before, with the same layers, weights and contract."""
    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx

    converted: dict[str, bytes] = {}

    def convert_cached(network: Any, contract: Contract) -> onnx.ModelProto:
        content = hashlib.sha256(f"{network.to_json()} {contract.to_json()}".encode())
        for weight in network.get_weights():
            content.update(weight.tobytes())
        key = content.hexdigest()
        if key not in converted:
            converted[key] = convert_to_onnx(network, contract).SerializeToString()
        return onnx.load_from_string(converted[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ct3d_edge.conversion.keras_to_onnx.convert_to_onnx", convert_cached)
        yield


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_network` as .keras."""
    path = tmp_path_factory.mktemp("networks") / "tiny.keras"
    tiny_network().save(path)
    return path


@pytest.fixture
def save_network(tmp_path: Path, tiny_file: Path, convert_once: None) -> SaveNetwork:
    """Save a network as .keras: ``save_network(network, "name.keras")`` gives its path."""

    def save(network: Any = None, name: str = "tiny.keras") -> Path:
        path = tmp_path / name
        if network is None:
            shutil.copyfile(tiny_file, path)
        else:
            network.save(path)
        return path

    return save


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged, also after a test of a command, which keeps records from the root logger."""
    monkeypatch.setattr(logging.getLogger("ct3d_edge"), "propagate", True)
    caplog.set_level("INFO", "ct3d_edge")
    return caplog


@pytest.fixture
def volumes() -> list[NDArray[np.float32]]:
    """Eight network inputs that differ."""
    rng = np.random.default_rng(5)
    return [rng.random(SHAPE, np.float32) * level for level in np.linspace(0.1, 1, 8, dtype=np.float32)]
