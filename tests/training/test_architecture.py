from pathlib import Path

import keras
import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.network import NETWORKS, TUTORIAL, NetworkSpec, find_network, read_weights

# Type, output shape and parameter count of each layer, from the published tutorial's model summary.
TUTORIAL_LAYERS = [
    ("InputLayer", (128, 128, 64, 1), 0),
    ("Conv3D", (126, 126, 62, 64), 1_792),
    ("MaxPooling3D", (63, 63, 31, 64), 0),
    ("BatchNormalization", (63, 63, 31, 64), 256),
    ("Conv3D", (61, 61, 29, 64), 110_656),
    ("MaxPooling3D", (30, 30, 14, 64), 0),
    ("BatchNormalization", (30, 30, 14, 64), 256),
    ("Conv3D", (28, 28, 12, 128), 221_312),
    ("MaxPooling3D", (14, 14, 6, 128), 0),
    ("BatchNormalization", (14, 14, 6, 128), 512),
    ("Conv3D", (12, 12, 4, 256), 884_992),
    ("MaxPooling3D", (6, 6, 2, 256), 0),
    ("BatchNormalization", (6, 6, 2, 256), 1_024),
    ("GlobalAveragePooling3D", (256,), 0),
    ("Dense", (512,), 131_584),
    ("Dropout", (512,), 0),
    ("Dense", (1,), 513),
]


def test_layers_are_those_of_the_tutorial() -> None:
    model = TUTORIAL.build(128, 128, 64)
    table = [(type(layer).__name__, layer.output.shape[1:], layer.count_params()) for layer in model.layers]
    assert table == TUTORIAL_LAYERS
    assert model.name == "3dcnn"


def test_settings_that_the_table_does_not_show() -> None:
    layers = {type(layer).__name__: layer for layer in TUTORIAL.build(128, 128, 64).layers}
    assert layers["Dropout"].rate == 0.3
    assert layers["Dense"].activation.__name__ == "sigmoid"  # the last of the two
    assert layers["Conv3D"].activation.__name__ == "relu"
    assert layers["Conv3D"].padding == "valid"


def test_parameter_count() -> None:
    model = TUTORIAL.build(128, 128, 64)
    assert model.count_params() == 1_352_897
    assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == 1_024


SPECS = [
    *NETWORKS.values(),
    NetworkSpec("strided", (2, 2, 2), stem_stride=2),
    NetworkSpec("one", (2,), stem_pool=False),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_smallest_size_works_and_one_less_does_not(spec: NetworkSpec) -> None:
    size = spec.smallest_size()
    probability = spec.build(size, size, size)(np.zeros((1, size, size, size, 1), np.float32))
    assert probability.shape == (1, 1)
    assert spec.build(128, 128, 64).count_params() == spec.build(size, size, size).count_params()
    with pytest.raises(UsageError, match=f"input depth is {size - 1} voxels; .* at least {size}"):
        spec.build(size, size, size - 1)


def test_smallest_sizes() -> None:
    assert TUTORIAL.smallest_size() == NETWORKS["narrow"].smallest_size() == 46


def test_light_networks_have_names_of_their_own_and_fewer_weights() -> None:
    light = [find_network(name).build(128, 128, 64) for name in NETWORKS if name != "tutorial"]
    assert [model.name for model in light] == [f"3dcnn-{name}" for name in NETWORKS if name != "tutorial"]
    assert all(model.count_params() < 1_352_897 for model in light)


def test_a_stride_halves_what_the_first_block_leaves() -> None:
    layers = (
        NetworkSpec("strided", (2, 3), stem_stride=2, stem_pool=False, hidden_units=5, dropout=0.1)
        .build(64, 64, 48)
        .layers
    )
    assert [layer.output.shape[1:] for layer in layers[:6]] == [
        (64, 64, 48, 1),
        (31, 31, 23, 2),
        (31, 31, 23, 2),
        (29, 29, 21, 3),
        (14, 14, 10, 3),
        (14, 14, 10, 3),
    ]
    assert (layers[-3].units, layers[-2].rate) == (5, 0.1)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    NETWORKS["narrow"].build(46, 46, 46).save(tmp_path / "narrow.keras")
    message = r"narrow\.keras: it holds 3dcnn-narrow, [\d,]+ weights; the network tutorial has 1,352,897 .*`network=`"
    with pytest.raises(UsageError, match=message):
        read_weights(TUTORIAL, tmp_path / "narrow.keras", (46, 46, 46))
    assert keras.saving.load_model(tmp_path / "narrow.keras").name == "3dcnn-narrow"


@pytest.mark.parametrize(("axis", "name"), [(0, "width"), (1, "height"), (2, "depth")])
def test_too_small_an_input_names_its_axis(axis: int, name: str) -> None:
    sides = [46, 46, 46]
    sides[axis] = 45
    with pytest.raises(UsageError, match=f"input {name} is 45 voxels; .* at least 46"):
        TUTORIAL.build(*sides)
