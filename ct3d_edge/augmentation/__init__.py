"""Augmentation: what a network is shown in training instead of the very same volume each time."""

from ct3d_edge.augmentation.choose import AUGMENTATIONS, Augmentation, AugmentationName, Unchanged, augmentation
from ct3d_edge.augmentation.six_angles import ANGLES, SixAngles
from ct3d_edge.augmentation.small_changes import SmallChanges, left_right_axis

__all__ = [
    "ANGLES",
    "AUGMENTATIONS",
    "Augmentation",
    "AugmentationName",
    "SixAngles",
    "SmallChanges",
    "Unchanged",
    "augmentation",
    "left_right_axis",
]
