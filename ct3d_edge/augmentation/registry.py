"""The augmentations by name."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.augmentation.random_affine_intensity import RandomAffineIntensity, left_right_axis
from ct3d_edge.augmentation.tutorial_rotation import TutorialRotation
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError

AugmentationName = Literal["none", "six-angles", "small-changes"]

AUGMENTATIONS: tuple[AugmentationName, ...] = get_args(AugmentationName)


class Augmentation(Protocol):
    """A random change of a network input that leaves its label true.

    Pure and thread-safe: everything random comes from the generator, and nothing is remembered between calls but
    tables that depend on the volume's shape alone.
    """

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator, /) -> NDArray[np.float32]:
        """Draw a changed copy.

        Parameters
        ----------
        volume
            ``(W, H, D)`` float32 in [0, 1]; only read, a read-only memory map will do.
        rng
            Equal states, equal results.

        Returns
        -------
        ndarray
            New, ``(W, H, D)`` float32 in [0, 1], C-contiguous.
        """


@dataclass(frozen=True)
class NoAugmentation:
    """The volume as it is, copied."""

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator, /) -> NDArray[np.float32]:  # noqa: ARG002
        """Copy ``(W, H, D)`` float32; nothing is drawn from ``rng``."""
        return np.array(volume, np.float32, order="C")


def get_augmentation(name: AugmentationName, contract: Contract) -> Augmentation:
    """Choose an augmentation by its name.

    Parameters
    ----------
    name
        ``"none"``, ``"six-angles"`` (the published tutorial's) or ``"small-changes"`` (ours).
    contract
        Of the network that is trained: its HU window gives HU their size in [0, 1], its orientation and quarter
        turns say which array axis runs from left to right.

    Raises
    ------
    UsageError
        If there is no augmentation of that name.
    """
    if name == "none":
        return NoAugmentation()
    if name == "six-angles":
        return TutorialRotation()
    if name == "small-changes":
        return RandomAffineIntensity(hu_window=contract.hu_window, flip_axis=left_right_axis(contract))
    raise UsageError(f"There is no augmentation {name!r}; choose one of {', '.join(AUGMENTATIONS)}.")
