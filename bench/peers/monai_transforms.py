"""MONAI's transforms for the tutorial's preprocessing, each with the setting that makes it equal."""

from pathlib import Path

from bench.fixture import Fixture
from bench.peers import Preprocessing, Volumes
from bench.peers.tutorial import HIGH, LOW

NEEDS = ("monai", "torch", "nibabel")
PACKAGES = ("monai", "torch", "nibabel")


def preprocessing(fixture: Fixture, threads: int) -> Preprocessing:
    """Load, window, quarter turn, trilinear with aligned corners."""
    import numpy as np
    import torch
    from monai import transforms

    torch.set_num_threads(threads)
    shape = tuple(fixture.volumes().shape[1:])
    chain = transforms.Compose(
        [
            transforms.LoadImage(image_only=True, ensure_channel_first=True),
            transforms.ScaleIntensityRange(LOW, HIGH, 0.0, 1.0, clip=True),
            transforms.Rotate90(k=1, spatial_axes=(0, 1)),
            transforms.Resize(shape, mode="trilinear", align_corners=True),
        ]
    )

    def prepare(path: Path) -> Volumes:
        return np.asarray(chain(path)[0], np.float32)

    return prepare
