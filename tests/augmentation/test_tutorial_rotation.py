import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_value
from scipy import ndimage

from ct3d_edge.augmentation.tutorial_rotation import ANGLES, TutorialRotation, rotate

SIZES = [
    (32, 32, 8),
    (31, 31, 3),
    (24, 40, 5),
    (41, 24, 2),
    (9, 8, 1),
    (5, 4, 3),
    (3, 3, 3),
    (2, 2, 2),
    (1, 5, 2),
    (1, 1, 1),
]


def published(volume: NDArray[np.float32], angle: int) -> NDArray[np.float32]:
    """The tutorial's augmentation, written from its description."""
    turned = ndimage.rotate(volume, angle, reshape=False)
    turned[turned < 0] = 0
    turned[turned > 1] = 1
    return np.asarray(turned)


@pytest.mark.parametrize(("angle", "size"), each_value(ANGLES, SIZES))
def test_equals_scipys_rotation(size: tuple[int, int, int], angle: int) -> None:
    volume = np.random.default_rng(2).random(size, np.float32)
    np.testing.assert_allclose(rotate(volume, angle), published(volume, angle), rtol=0, atol=1e-5)


def test_overshoot_of_the_spline_is_clipped() -> None:
    steps = np.zeros((32, 32, 1), np.float32)
    steps[8:24, 8:24] = 1
    assert ndimage.rotate(steps, 20, reshape=False).max() > 1.01, "there is something to clip"
    turned = rotate(steps, 20)
    assert (turned.min(), turned.max()) == (0, 1)


def test_draws_each_of_the_angles_about_equally_often() -> None:
    volume = np.random.default_rng(3).random((12, 12, 1), np.float32)
    expected = [rotate(volume, angle) for angle in ANGLES]
    rng, augment, drawn = np.random.default_rng(4), TutorialRotation(), np.zeros(len(ANGLES), int)
    for _ in range(600):
        result = augment(volume, rng)
        drawn[[np.array_equal(result, turned) for turned in expected]] += 1
    assert drawn.sum() == 600, "nothing but the six angles"
    assert drawn.min() > 70, "100 are expected; fewer than 70 come once in a thousand runs"
