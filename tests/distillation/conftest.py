"""A tiny teacher, trained on a folder of tiny scans, and a file with the function of a tiny student."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from networks import KERAS
from training.conftest import plain, write_scan

# The root conftest says so aloud.
collect_ignore_glob = [] if KERAS else ["test_*.py"]

NETWORKS_FILE = """
import keras


def build(size, filters):
    volume = keras.Input((*size, 1))
    features = keras.layers.MaxPool3D(2)(keras.layers.Conv3D(filters, 3, activation="relu")(volume))
    features = keras.layers.BatchNormalization()(features)
    features = keras.layers.GlobalAveragePooling3D()(features)
    return keras.Model(volume, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(features))


def large(*size):
    return build(size, 16)


def small(*size):
    return build(size, 4)
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    """A file with the functions ``large`` and ``small``."""
    file = tmp_path / "networks.py"
    file.write_text(NETWORKS_FILE)
    return file


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Twelve scans a class: air, soft tissue on one side, and in one class a bright ball; quality checks pass them."""
    for label, name in enumerate(("normal", "abnormal")):
        for n in range(12):
            path = tmp_path / "scans" / name / f"study_{n:02}.nii.gz"
            write_scan(path, seed=100 * label + n, ball=label == 1)
            scan = nib.load(path)
            hu = np.asarray(scan.dataobj)
            hu[:, :2] = 40 + np.random.default_rng(n).integers(
                -20, 20, hu[:, :2].shape
            )  # constant would be a fill value
            nib.save(nib.Nifti1Image(hu, scan.affine), path)
    return tmp_path / "scans"


@pytest.fixture
def teacher(scans: Path, networks: Path, tmp_path: Path) -> Path:
    """A training run on ``scans``, a quarter of which is its test subset."""
    from ct3d_edge.splits.create import create_split
    from ct3d_edge.splits.split_file import write_split
    from ct3d_edge.training.fit import train

    write_split(tmp_path / "split.json", create_split(scans, validation=0.25, test=0.25))
    preset = plain(epochs=25, learning_rate=0.02, batch_size=4, momentum=0.5, calibrate=True)
    options: dict[str, Any] = {"size": (10, 10, 10), "network": f"{networks}:large", "split": tmp_path / "split.json"}
    return train(scans, tmp_path / "teacher", preset, **options).folder
