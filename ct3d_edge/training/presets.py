"""Everything that decides how a network learns, under a name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ct3d_edge.augmentation.registry import AugmentationName
from ct3d_edge.errors import UsageError

Criterion = Literal["val_loss", "val_accuracy", "val_auc"]
Schedule = Literal["staircase", "cosine"]


@dataclass(frozen=True)
class Preset:
    """How a network learns.

    Parameters
    ----------
    name
        Of the preset that this is, or was before something was changed.
    epochs, batch_size
        Passes over the data at most; scans per step.
    learning_rate
        Of Adam at the start.
    schedule
        ``"staircase"``: times 0.96 every 100,000 steps. ``"cosine"``: up over the first epoch, then down to a
        hundredth over the epochs that were asked for.
    momentum
        Of batch normalisation's running statistics, which validation and inference use: 0.99 follows the network
        with a lag of some 100 steps, 0.9 of 10. With few steps an epoch a long lag makes good weights look bad.
    augmentation
        Random change of each training volume, drawn again in each epoch; see `ct3d_edge.augmentation`.
    class_weights
        Whether both classes weigh the same in the loss, however many scans each has.
    select_by
        Metric whose best epoch gives the weights of the model; of equal ones the first.
    stop_by, patience
        Training ends when this figure has not become better for so many epochs.
    calibrate
        Whether temperature and threshold are fitted on the validation scans at the end; see
        `ct3d_edge.temperature_scaling`.

    Raises
    ------
    UsageError
        If a value is out of its range.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    momentum: float
    augmentation: AugmentationName
    class_weights: bool
    select_by: Criterion
    stop_by: Criterion
    patience: int
    calibrate: bool

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"The {name.replace('_', ' ')} must be at least 1, found {getattr(self, name)}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"The learning rate must be a positive number, found {self.learning_rate}.")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"The momentum must be at least 0 and below 1, found {self.momentum}.")
        if self.augmentation not in get_args(AugmentationName):
            known = ", ".join(get_args(AugmentationName))
            raise UsageError(f"There is no augmentation {self.augmentation!r}; there are {known}.")


TUTORIAL = Preset(
    name="tutorial",
    epochs=100,
    batch_size=2,
    learning_rate=1e-4,
    schedule="staircase",
    momentum=0.99,
    augmentation="six-angles",
    class_weights=False,
    select_by="val_loss",
    stop_by="val_accuracy",
    patience=15,
    calibrate=False,
)
"""Source: "3D image classification from CT scans", Keras code examples: accuracy stops, loss picks the weights."""

DEFAULT = Preset(
    name="default",
    epochs=100,
    batch_size=4,
    learning_rate=5e-4,
    schedule="cosine",
    momentum=0.9,
    augmentation="small-changes",
    class_weights=True,
    select_by="val_loss",
    stop_by="val_loss",
    patience=15,
    calibrate=True,
)
"""Ours; docs/training.md compares it with the tutorial."""

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in (DEFAULT, TUTORIAL)})
