from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.augmentation.random_affine_intensity import RandomAffineIntensity
from ct3d_edge.augmentation.registry import AUGMENTATIONS, AugmentationName, NoAugmentation, get_augmentation
from ct3d_edge.augmentation.tutorial_rotation import TutorialRotation
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError

SHAPE = (20, 24, 6)
CONTRACT = Contract(shape=SHAPE)
each = pytest.mark.parametrize("name", AUGMENTATIONS)


def test_names_become_augmentations_that_follow_the_contract() -> None:
    assert get_augmentation("none", CONTRACT) == NoAugmentation()
    assert get_augmentation("six-angles", CONTRACT) == TutorialRotation()
    assert get_augmentation("small-changes", CONTRACT) == RandomAffineIntensity(flip_axis=1)
    unturned = Contract(hu_window=(-160, 240), quarter_turns=0)
    assert get_augmentation("small-changes", unturned) == RandomAffineIntensity(hu_window=(-160, 240), flip_axis=0)


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match="'mixup'; choose one of none, six-angles, small-changes"):
        get_augmentation("mixup", CONTRACT)  # type: ignore[arg-type]


@each
def test_the_result_is_new_and_like_the_input(name: AugmentationName, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random(SHAPE, np.float32))
    volume = np.load(tmp_path / "v.npy", mmap_mode="r")
    before = volume.copy()
    result = get_augmentation(name, CONTRACT)(volume, np.random.default_rng(1))
    assert type(result) is np.ndarray
    assert (result.shape, result.dtype.name) == (SHAPE, "float32")
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert not np.shares_memory(result, volume)
    assert np.array_equal(volume, before)
    assert 0 <= result.min() <= result.max() <= 1
    assert np.array_equal(result, before) == (name == "none")


@each
def test_strided_input_gives_the_same(name: AugmentationName) -> None:
    volume = np.random.default_rng(0).random(SHAPE, np.float32)
    augment = get_augmentation(name, CONTRACT)
    strided = augment(np.asfortranarray(volume), np.random.default_rng(1))
    assert strided.flags.c_contiguous
    np.testing.assert_allclose(strided, augment(volume, np.random.default_rng(1)), rtol=0, atol=1e-6)


@each
def test_equal_seeds_equal_results_in_any_thread(name: AugmentationName) -> None:
    volume = np.random.default_rng(0).random(SHAPE, np.float32)
    augment = get_augmentation(name, CONTRACT)

    def draw(seed: int) -> bytes:
        return augment(volume, np.random.default_rng(seed)).tobytes()

    alone = [draw(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(draw, range(24))) == alone
    assert len(set(alone)) == {"none": 1, "six-angles": 6, "small-changes": 24}[name]
