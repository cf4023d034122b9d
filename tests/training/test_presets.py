import math
from dataclasses import replace
from typing import Any

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.early_stopping import best_epoch, is_over
from ct3d_edge.training.history import EpochRecord
from ct3d_edge.training.presets import DEFAULT, PRESETS, TUTORIAL


def test_presets_are_found_by_their_names() -> None:
    assert {name: preset.name for name, preset in PRESETS.items()} == {"default": "default", "tutorial": "tutorial"}


def test_the_tutorial_to_the_letter() -> None:
    published = (100, 2, 1e-4, "staircase", 0.99, "six-angles", False, "val_loss", "val_accuracy", 15)
    names = "epochs batch_size learning_rate schedule momentum augmentation class_weights select_by stop_by patience"
    assert tuple(getattr(TUTORIAL, name) for name in names.split()) == published


def test_ours_selects_and_stops_by_one_criterion() -> None:
    assert DEFAULT.select_by == DEFAULT.stop_by


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"batch_size": 0}, "batch size must be at least 1, found 0"),
        ({"patience": 0}, "patience must be at least 1, found 0"),
        ({"learning_rate": 0.0}, "learning rate must be a positive number"),
        ({"learning_rate": math.nan}, "learning rate must be a positive number"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"augmentation": "wild"}, "There is no augmentation 'wild'; there are none"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(DEFAULT, **change)


def _records(losses: list[float], accuracies: list[float]) -> list[EpochRecord]:
    return [
        EpochRecord(n, 0.0, 0.0, 0.0, loss, accuracy, 0.5, 1.0, 1e-4)
        for n, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1)
    ]


def test_the_best_epoch_is_the_first_of_equal_ones() -> None:
    records = _records([3, 1, 1, 2], [0.5, 0.6, 0.9, 0.9])
    assert best_epoch(records, "val_loss").epoch == 2
    assert best_epoch(records, "val_accuracy").epoch == 3
    assert best_epoch(records, "val_auc").epoch == 1


def test_patience_counts_epochs_without_a_better_one() -> None:
    preset = replace(TUTORIAL, patience=2, epochs=10)
    accuracies = [0.5, 0.7, 0.7, 0.6]
    over = [is_over(_records([1.0] * n, accuracies[:n]), preset) for n in range(5)]
    assert over == [False, False, False, False, True]


def test_the_last_epoch_ends_it() -> None:
    assert is_over(_records([2, 1], [0.5, 0.6]), replace(TUTORIAL, epochs=2))
