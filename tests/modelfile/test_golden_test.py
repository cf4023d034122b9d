import json

import numpy as np
import pytest

from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.golden_input import RECIPE, make_golden_input, make_phantom_volume
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.tensor_sketch import TensorSketch

SKETCH = TensorSketch("logit", 2.0, ((1.5,), (-1.5,)))
GOLDEN = GoldenTest(RECIPE, ((1, 2, 512), (3, 4, 0)), ((0.25, 0.75), (0.5, 0.5)), 1e-4, (SKETCH,), 1e-3)
OLD = '{"expected":[[0.25,0.75],[0.5,0.5]],"recipe":"ellipsoids-1","seeds":[1,2],"tolerance":0.0001}'


def test_golden_test_survives_its_json() -> None:
    assert GoldenTest.from_json(GOLDEN.to_json(), classes=2) == GOLDEN


def test_input_is_a_textured_chest_like_volume_in_range() -> None:
    volume = make_phantom_volume(1, (32, 32, 16))
    assert volume.shape == (32, 32, 16)
    assert volume.dtype == np.float32
    assert volume.min() >= 0
    assert volume.max() <= 1
    assert volume[16, 16, 8] > 0.5 > volume[16, 10, 8], "soft tissue in the middle, lung beside it"


def test_input_depends_on_its_seed_alone() -> None:
    assert np.array_equal(make_phantom_volume(3, (16, 16, 8)), make_phantom_volume(3, (16, 16, 8)))
    assert not np.array_equal(make_phantom_volume(3, (16, 16, 8)), make_phantom_volume(4, (16, 16, 8)))


def test_input_is_the_same_on_every_machine() -> None:
    """Integer arithmetic: these sums (in 1/1024) may never change under the recipe's name."""
    sums = [int((make_phantom_volume(seed, (16, 12, 8)).astype(np.float64) * 1024).sum()) for seed in (1, 2)]
    assert sums == [399_094, 399_826]
    blends = [(1, 2, 0), (2, 3, 0), (4, 5, 300), (9, 6, 1024)]
    sums = [int((make_golden_input(RECIPE, blend, (16, 12, 8)).astype(np.float64) * 1024).sum()) for blend in blends]
    assert sums == [262_791, 780_761, 354_041, 778_465]


def test_a_blend_lies_between_its_ends_in_multiples_of_the_step() -> None:
    ends = [make_golden_input(RECIPE, blend, (16, 12, 8)) for blend in ((4, 5, 0), (4, 5, 1024))]
    assert np.array_equal(ends[1], make_golden_input(RECIPE, (5, 9, 0), (16, 12, 8)))
    between = make_golden_input(RECIPE, (4, 5, 300), (16, 12, 8))
    assert np.all(between >= np.minimum(*ends))
    assert np.all(between <= np.maximum(*ends))
    assert np.array_equal(between * 1024, np.rint(between * 1024))


def test_files_written_before_are_still_read_and_said_to_be_weak() -> None:
    old = GoldenTest.from_json(OLD, classes=2)
    assert old.inputs == ((1, 1, 0), (2, 2, 0))
    assert old.limitation is not None
    assert np.array_equal(old.volumes((16, 12, 8))[1], make_phantom_volume(2, (16, 12, 8)))
    assert GoldenTest.from_json(old.to_json(), classes=2) == old
    assert GOLDEN.limitation is None


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "unknown"},
        {"inputs": []},
        {"inputs": [[1, 2, 3]]},
        {"inputs": [1, 2]},
        {"inputs": [[1, 2, 3], [1, 2, 1025]]},
        {"inputs": [[1, 2, 3], [1, 2**16 + 1, 3]]},
        {"tensors": [{"name": "x", "spread": 0, "values": [[1], [1]]}]},
        {"tensors": [{"name": "x", "spread": 1, "values": [[1]]}]},
        {"tensors": [{"name": "x", "spread": 1}]},
        {"tensors": 1},
        {"tensor_tolerance": 2},
        {"expected": "text"},
        {"tolerance": None, "inputs": None},
    ],
)
def test_a_damaged_golden_test_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="golden test inside the model file"):
        GoldenTest.from_json(json.dumps(json.loads(GOLDEN.to_json()) | change), classes=2)


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", "[" * 100_000])
def test_what_is_no_golden_test_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="golden test inside the model file"):
        GoldenTest.from_json(text, classes=2)
