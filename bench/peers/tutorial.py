"""The published tutorial's path from a file to a network input, with the tools it uses: nibabel and SciPy.

Written from its description ("3D image classification from CT scans", Keras examples): clip to -1000..400 HU, scale
to [0, 1], rotate by 90 degrees, zoom linearly. Besides being what a user would run otherwise, it is the obvious
implementation that the fast one is tested against.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.fixture import Fixture
from bench.peers import Preprocessing

NEEDS = ("nibabel", "scipy")
PACKAGES = ("nibabel", "scipy", "numpy")
LOW, HIGH = -1000, 400


def preprocessing(fixture: Fixture, threads: int) -> Preprocessing:  # noqa: ARG001 - SciPy has one thread
    """As a peer: to the shape of the network's input."""
    shape = tuple(fixture.volumes().shape[1:])
    return lambda path: preprocess(path, shape)


def read(path: Path) -> NDArray[np.float64]:
    """HU of a scan, ``(i, j, k)`` float64, array order as it lies in the file."""
    return np.asarray(nib.load(path).get_fdata())


def normalise(hu: NDArray[np.float64]) -> NDArray[np.float32]:
    """HU window to [0, 1]."""
    return ((np.clip(hu, LOW, HIGH) - LOW) / (HIGH - LOW)).astype(np.float32)


def resize(volume: NDArray[np.float32], shape: tuple[int, int, int] = (128, 128, 64)) -> NDArray[np.float32]:
    """Quarter turn, then linear zoom to ``shape``."""
    turned = ndimage.rotate(volume, 90, reshape=False)
    factors = [wanted / found for wanted, found in zip(shape, turned.shape, strict=True)]
    return np.asarray(ndimage.zoom(turned, factors, order=1))


def preprocess(path: Path, shape: tuple[int, int, int] = (128, 128, 64)) -> NDArray[np.float32]:
    """A scan file to the network's input, ``shape`` float32."""
    return resize(normalise(read(path)), shape)
