import json

import numpy as np
import pytest

from ct3d_edge.errors import ModelError
from ct3d_edge.runtime import RECIPE, Golden, golden_volume

GOLDEN = Golden(RECIPE, (1, 2), ((0.25, 0.75), (0.5, 0.5)), 1e-4)


def test_golden_test_survives_its_json() -> None:
    assert Golden.from_json(GOLDEN.to_json(), classes=2) == GOLDEN


def test_input_is_a_textured_chest_like_volume_in_range() -> None:
    volume = golden_volume(1, (32, 32, 16))
    assert volume.shape == (32, 32, 16)
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert volume.max() <= 1
    assert volume[16, 16, 8] > 0.5 > volume[16, 10, 8], "soft tissue in the middle, lung beside it"


def test_input_depends_on_its_seed_alone() -> None:
    assert np.array_equal(golden_volume(3, (16, 16, 8)), golden_volume(3, (16, 16, 8)))
    assert not np.array_equal(golden_volume(3, (16, 16, 8)), golden_volume(4, (16, 16, 8)))


def test_input_is_the_same_on_every_machine() -> None:
    """Integer arithmetic: these sums (in 1/1024) may never change under the recipe's name."""
    sums = [int((golden_volume(seed, (16, 12, 8)).astype(np.float64) * 1024).sum()) for seed in (1, 2)]
    assert sums == [399_094, 399_826]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "unknown"},
        {"seeds": []},
        {"seeds": [1]},
        {"expected": "text"},
        {"tolerance": None, "seeds": None},
    ],
)
def test_a_damaged_golden_test_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="golden test inside the model file"):
        Golden.from_json(json.dumps(json.loads(GOLDEN.to_json()) | change), classes=2)


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", "[" * 100_000])
def test_what_is_no_golden_test_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="golden test inside the model file"):
        Golden.from_json(text, classes=2)
