"""Lesions are where and what they should be, and only place and texture give them away."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.phantom import Phantom, build_scene, make_phantom

SHAPE = (64, 64, 24)  # no finer than a coarse field, so that those lie voxel on voxel with the phantom
SICK_SEEDS = range(100, 108)
COHORT = 60


@dataclass(frozen=True)
class Case:
    phantom: Phantom
    chest: Chest

    @property
    def lung(self) -> NDArray[np.bool_]:
        return self.chest.inside_lung.T

    def away_from_the_edge(self, depth: float) -> NDArray[np.bool_]:
        return (self.chest.lung > depth).T


@cache
def case(seed: int, abnormal: bool) -> Case:
    chest = build_scene(seed, abnormal=abnormal, shape=SHAPE).chest
    return Case(make_phantom(seed, abnormal=abnormal, shape=SHAPE), chest)


@cache
def cohort() -> tuple[list[Case], NDArray[np.int_]]:
    labels = np.arange(COHORT) % 2
    return [case(1000 + index, bool(label)) for index, label in enumerate(labels)], labels


@pytest.mark.parametrize("seed", SICK_SEEDS)
def test_lesions_fill_5_to_60_percent_of_the_lungs(seed: int) -> None:
    sick = case(seed, True)
    assert 0.05 <= sick.phantom.lesions.sum() / sick.lung.sum() <= 0.60


@pytest.mark.parametrize("seed", SICK_SEEDS)
def test_lesions_lie_in_the_lungs(seed: int) -> None:
    sick = case(seed, True)
    assert not (sick.phantom.lesions & ~sick.lung).any()


def test_normal_has_none() -> None:
    assert not any(case(seed, False).phantom.lesions.any() for seed in SICK_SEEDS)


@pytest.mark.parametrize("seed", SICK_SEEDS)
def test_lesions_are_ground_glass_and_consolidation(seed: int) -> None:
    sick = case(seed, True)
    hu = sick.phantom.hu[sick.phantom.lesions & sick.away_from_the_edge(4.0)]
    assert -700 <= np.median(hu) <= -100
    # Noise, soft edges and the vessels that run through a lesion leave the range.
    assert ((hu >= -750) & (hu <= -50)).mean() > 0.8


@pytest.mark.parametrize("seed", SICK_SEEDS)
def test_lesions_are_denser_than_the_lung_around_them(seed: int) -> None:
    sick = case(seed, True)
    deep = sick.away_from_the_edge(4.0)
    inside, outside = (
        np.median(sick.phantom.hu[deep & where]) for where in (sick.phantom.lesions, ~sick.phantom.lesions)
    )
    assert inside > outside + 100


def test_lesions_are_multifocal() -> None:
    foci = [ndimage.label(case(seed, True).phantom.lesions)[1] for seed in SICK_SEEDS]
    assert np.median(foci) >= 3


def test_lesions_are_mostly_peripheral_and_basal() -> None:
    shallower, lower = [], []
    for seed in SICK_SEEDS:
        sick = case(seed, True)
        depth = sick.chest.pleura_depth.T
        height = np.broadcast_to(sick.chest.patient.height, sick.chest.lung.shape).T
        ill, well = sick.phantom.lesions, sick.lung & ~sick.phantom.lesions
        shallower.append(depth[ill].mean() < depth[well].mean())
        lower.append(height[ill].mean() < height[well].mean())
    assert np.mean(shallower) >= 0.85
    assert np.mean(lower) >= 0.85


@pytest.mark.slow
def test_a_histogram_does_not_tell_the_classes_apart() -> None:
    cases, labels = cohort()
    features = []
    for one in cases:
        hu = np.clip(one.phantom.hu, -1000, 400).astype(np.float64)
        features.append([hu.mean(), *(np.histogram(hu, 8, (-1000, 400))[0] / hu.size)])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    auc = cross_val_score(model, np.asarray(features), labels, scoring="roc_auc", cv=folds).mean()
    assert auc <= 0.80


@pytest.mark.slow
def test_patchiness_does_tell_them_apart() -> None:
    cases, labels = cohort()
    assert roc_auc_score(labels, [_patchiness(one) for one in cases]) >= 0.95


def _patchiness(one: Case) -> float:
    """Spread of the locally averaged lung around the median of its row: gravity alone leaves little of it."""
    lung = one.away_from_the_edge(4.0)
    weight = ndimage.uniform_filter(lung.astype(np.float64), (3, 3, 1))
    total = ndimage.uniform_filter(np.where(lung, np.clip(one.phantom.hu, -1000, 0), 0.0), (3, 3, 1))
    local = total / np.maximum(weight, 1e-3)
    rows = [local[:, row][lung[:, row]] for row in range(SHAPE[1])]
    return float(np.concatenate([row - np.median(row) for row in rows if row.size]).std())
