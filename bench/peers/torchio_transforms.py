"""TorchIO's transforms for the tutorial's preprocessing.

TorchIO resizes by resampling to a grid in space. The grid here has the end points of the scan's, as SciPy's zoom has.
The quarter turn is PyTorch's: TorchIO has none.
"""

from pathlib import Path

from bench.fixture import Fixture
from bench.peers import Preprocessing, Volumes
from bench.peers.tutorial import HIGH, LOW

NEEDS = ("torchio", "torch", "nibabel")
PACKAGES = ("torchio", "torch", "SimpleITK", "nibabel")


def preprocessing(fixture: Fixture, threads: int) -> Preprocessing:
    """Load, window, resample linearly, quarter turn."""
    import numpy as np
    import torch
    import torchio

    torch.set_num_threads(threads)
    width, height, depth = fixture.volumes().shape[1:]
    window = torchio.Compose(
        [torchio.Clamp(LOW, HIGH), torchio.RescaleIntensity((0, 1), in_min_max=(LOW, HIGH))],
    )

    def prepare(path: Path) -> Volumes:
        image = window(torchio.ScalarImage(path))
        wanted = (height, width, depth)  # before the turn
        steps = [(found - 1) / (size - 1) for found, size in zip(image.spatial_shape, wanted, strict=True)]
        grid = image.affine @ np.diag([*steps, 1.0])
        resampled = torchio.Resample((wanted, grid), image_interpolation="linear")(image)
        return np.asarray(torch.rot90(resampled.data[0], 1, (0, 1)), np.float32)

    return prepare
