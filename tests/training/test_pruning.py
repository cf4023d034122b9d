"""Structured pruning against networks whose channels matter, or do not."""

import keras
import numpy as np
import pytest
from networks import tiny_network

from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.training.network import NetworkSpec
from ct3d_edge.training.pruning import PrunedNetwork, find_spec, keep_filters, prune_weights, scale_filters

SPEC = NetworkSpec("four", (4, 6), hidden_units=5)
SIZE = (12, 12, 12)


def trained() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = SPEC.build(*SIZE)
    draw = np.random.default_rng(0)
    model.set_weights(
        [np.abs(draw.normal(0.3, 0.2, weight.shape)) + 0.1 * (weight.ndim == 1) for weight in model.get_weights()]
    )
    return model


def output(model: keras.Model) -> float:
    volume = np.random.default_rng(5).random((1, *SIZE, 1), np.float32)
    return float(model(volume, training=False)[0, 0])


def test_a_network_is_recognised() -> None:
    spec = find_spec(trained(), SIZE)
    assert (spec.filters, spec.hidden_units, spec.stem_stride, spec.stem_pool) == ((4, 6), 5, 1, True)
    with pytest.raises(ModelError, match="no chain of blocks"):
        find_spec(tiny_network((*SIZE, 1)), SIZE)


def test_nothing_changes_without_anything_to_prune() -> None:
    model = trained()
    for found, expected in zip(prune_weights(model, (4, 6)), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_channels_that_nobody_reads_go_first_and_the_output_stays() -> None:
    model = trained()
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv3D)]
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    kernel, bias = convolutions[1].get_weights()
    kernel[:, :, :, 2] = 0  # nothing reads channel 2 of the first block
    convolutions[1].set_weights([kernel, bias])
    scale, *others = normalizations[1].get_weights()
    scale[[0, 3]] = 0  # channels 0 and 3 of the second are constant
    normalizations[1].set_weights([scale, *others])
    pruned = PrunedNetwork(NetworkSpec("three", (3, 4), hidden_units=5), model, "a" * 64)
    assert output(pruned.build(*SIZE)) == pytest.approx(output(model), abs=1e-6)
    assert pruned.identity == "three, pruned from sha256 aaaaaaaaaaaa"


def test_of_equal_readers_the_smallest_scale_goes() -> None:
    model = trained()
    normalization = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    reader = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv3D) and layer.filters == 6)
    kernel, bias = reader.get_weights()
    reader.set_weights([np.broadcast_to(kernel[:, :, :, :1], kernel.shape), bias])
    _, shift, mean, _ = normalization.get_weights()
    normalization.set_weights([np.array([0.5, -0.9, 0.1, 0.7]), shift, mean, np.ones(4)])
    left = prune_weights(model, (2, 6))
    np.testing.assert_allclose(left[2], [-0.9, 0.7])


def test_filters_of_a_share() -> None:
    assert scale_filters(SPEC, 0.5).filters == (2, 3)
    assert scale_filters(SPEC, 0.01).filters == (1, 1)
    assert scale_filters(SPEC, 0.5).name == "pruned-2-3"


def test_filters_by_number() -> None:
    kept = keep_filters(SPEC, "3-6")
    assert (kept.filters, kept.name, kept.hidden_units) == ((3, 6), "pruned-3-6", SPEC.hidden_units)


@pytest.mark.parametrize("counts", ["3", "3-4-5", "5-6", "0-6", "3-x", "", "3,6"])
def test_filters_that_the_teacher_cannot_keep(counts: str) -> None:
    with pytest.raises(UsageError, match=r"one number a block, at most those of the teacher \(4-6\)"):
        keep_filters(SPEC, counts)
