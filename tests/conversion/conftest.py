"""Tiny Keras networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import KERAS, SHAPE, SaveNetwork, tiny_network
from numpy.typing import NDArray

# The root conftest says so aloud.
collect_ignore_glob = [] if KERAS else ["test_*.py"]


@pytest.fixture
def save_network(tmp_path: Path) -> SaveNetwork:
    """Save a network as .keras: ``save_network(network, "name.keras")`` gives its path."""

    def save(network: Any = None, name: str = "tiny.keras") -> Path:
        path = tmp_path / name
        (tiny_network() if network is None else network).save(path)
        return path

    return save


@pytest.fixture
def volumes() -> list[NDArray[np.float32]]:
    """Eight network inputs that differ."""
    rng = np.random.default_rng(5)
    return [rng.random(SHAPE, np.float32) * level for level in np.linspace(0.1, 1, 8, dtype=np.float32)]
