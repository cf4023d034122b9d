"""Weights that a training begins with, and their running statistics."""

from pathlib import Path

import keras
import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.fit import train
from ct3d_edge.training.network import TUTORIAL

from .conftest import SMALLEST, FolderMaker, plain


def _kernel_and_running_mean(model_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """First convolution's kernel and first normalisation's running mean."""
    model = keras.models.load_model(model_file, safe_mode=True)
    return np.asarray(model.layers[1].kernel), np.asarray(model.layers[3].moving_mean)


@pytest.mark.slow
def test_training_starts_from_the_weights_of_an_earlier_run_at_another_size(
    make_folder: FolderMaker, tmp_path: Path
) -> None:
    folder = make_folder("a", "b")
    earlier = tmp_path / "earlier.keras"
    network = TUTORIAL.build(*SMALLEST)
    network.save(earlier)
    other_size = (SMALLEST[0] + 1, *SMALLEST[1:])
    run = train(folder, tmp_path / "run", plain(learning_rate=1e-12), size=other_size, initial=earlier)
    assert _kernel_and_running_mean(run.model)[0] == pytest.approx(np.asarray(network.layers[1].kernel), abs=1e-9)


@pytest.mark.slow
def test_momentum_sets_how_fast_the_running_statistics_follow(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("a", "b")
    means = []
    for momentum in (0.99, 0.0):
        run = train(folder, tmp_path / f"run-{momentum}", plain(momentum=momentum), size=SMALLEST)
        means.append(np.abs(_kernel_and_running_mean(run.model)[1]).mean())
    slow, fast = means
    assert 0 < slow < 0.2 * fast


@pytest.mark.parametrize("content", [None, b"not a model"])
def test_weights_that_cannot_be_loaded_are_refused(
    make_folder: FolderMaker, tmp_path: Path, content: bytes | None
) -> None:
    initial = tmp_path / "initial.keras"
    if content is not None:
        initial.write_bytes(content)
    with pytest.raises(UsageError, match=r"Cannot start from the weights in .*initial\.keras"):
        train(make_folder("a", "b"), tmp_path / "run", size=SMALLEST, initial=initial)
    assert not (tmp_path / "run").exists()
