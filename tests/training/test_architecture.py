import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.network import build_model, smallest_size

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
    model = build_model(128, 128, 64)
    table = [(type(layer).__name__, layer.output.shape[1:], layer.count_params()) for layer in model.layers]
    assert table == TUTORIAL_LAYERS
    assert model.name == "3dcnn"


def test_settings_that_the_table_does_not_show() -> None:
    layers = {type(layer).__name__: layer for layer in build_model(128, 128, 64).layers}
    assert layers["Dropout"].rate == 0.3
    assert layers["Dense"].activation.__name__ == "sigmoid"  # the last of the two
    assert layers["Conv3D"].activation.__name__ == "relu"
    assert layers["Conv3D"].padding == "valid"


def test_parameter_count() -> None:
    model = build_model(128, 128, 64)
    assert model.count_params() == 1_352_897
    assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == 1_024


def test_smallest_size_works_and_one_less_does_not() -> None:
    size = smallest_size()
    assert size == 46
    probability = build_model(size, size, size)(np.zeros((1, size, size, size, 1), np.float32))
    assert probability.shape == (1, 1)


@pytest.mark.parametrize(("axis", "name"), [(0, "width"), (1, "height"), (2, "depth")])
def test_too_small_an_input_names_its_axis(axis: int, name: str) -> None:
    sides = [46, 46, 46]
    sides[axis] = 45
    with pytest.raises(UsageError, match=f"input {name} is 45 voxels; .* at least 46"):
        build_model(*sides)
