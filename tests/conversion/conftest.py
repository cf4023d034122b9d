"""Tiny Keras networks; the whole folder is skipped, aloud, where Keras is not installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import SHAPE, SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.errors import MissingExtraError
from ct3d_edge.keras_import import import_keras


@pytest.fixture(scope="session", autouse=True)
def _keras() -> None:
    try:
        import_keras()
    except MissingExtraError as error:
        pytest.skip(str(error))


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
