"""Structured pruning: a trained chain of blocks without its least important channels, to be trained further."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.training.network import NetworkSpec

SAME = 1e-4
"""Largest difference of probabilities on a random volume, by which a network is a `NetworkSpec`."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PrunedNetwork:
    """A `NetworkSpec` whose first weights are those of a trained one, without the channels that matter least.

    Parameters
    ----------
    spec
        With fewer filters than the trained network.
    trained
        The network that is pruned; see `find_spec`.
    sha256
        Of its file.
    """

    spec: NetworkSpec
    trained: keras.Model
    sha256: str

    @property
    def name(self) -> str:
        """That of the spec."""
        return self.spec.name

    @property
    def identity(self) -> str:
        """What a checkpoint is compared by."""
        return f"{self.spec.name}, pruned from sha256 {self.sha256[:12]}"

    def build(self, width: int, height: int, depth: int) -> keras.Model:
        """Build the network for an input size, with the weights that are left."""
        model = self.spec.build(width, height, depth)
        model.set_weights(self._weights)
        return model

    @cached_property
    def _weights(self) -> list[Array]:
        return prune_weights(self.trained, self.spec.filters)


def find_spec(model: keras.Model, size: tuple[int, int, int]) -> NetworkSpec:
    """The `NetworkSpec` that a model is, with its name ``"pruned"``.

    Raises
    ------
    ModelError
        It is another kind of network.
    """
    refusal = ModelError(
        f"The teacher {model.name} is no chain of blocks as `train` builds by name: only such networks can be pruned. "
        "Choose another `network`."
    )
    layers = keras.layers
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv3D)]
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    pools = [layer for layer in model.layers if isinstance(layer, layers.MaxPooling3D)]
    drops = [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)]
    if not convolutions or len(dense) != 2:
        raise refusal
    spec = NetworkSpec(
        "pruned",
        tuple(layer.filters for layer in convolutions),
        stem_stride=convolutions[0].strides[0],
        stem_pool=len(pools) == len(convolutions),
        hidden_units=dense[0].units,
        dropout=drops[0] if drops else 0.0,
    )
    if min(size) < spec.smallest_size() or not _predicts_the_same(spec.build(*size), model, size):
        raise refusal
    return spec


def _predicts_the_same(built: keras.Model, model: keras.Model, size: tuple[int, int, int]) -> bool:
    weights = model.get_weights()
    if [weight.shape for weight in weights] != [weight.shape for weight in built.get_weights()]:
        return False
    built.set_weights(weights)
    volume = np.random.default_rng(0).random((1, *size, 1), np.float32)
    outputs = [keras.ops.convert_to_numpy(one(volume, training=False)) for one in (built, model)]
    return bool(outputs[0].shape == outputs[1].shape and np.abs(outputs[0] - outputs[1]).max() < SAME)


def scale_filters(spec: NetworkSpec, share: float) -> NetworkSpec:
    """The spec with a share of its filters, at least one a block."""
    return _with_filters(spec, tuple(max(1, round(count * share)) for count in spec.filters))


def keep_filters(spec: NetworkSpec, counts: str) -> NetworkSpec:
    """The spec with so many filters, one number a block: ``"16-32-64-128"``.

    Raises
    ------
    UsageError
        There is not one positive number a block, or one is larger than the block's.
    """
    filters = tuple(int(count) if count.isdecimal() else 0 for count in counts.split("-"))
    most = "-".join(map(str, spec.filters))
    if len(filters) != len(spec.filters) or not all(0 < n <= own for n, own in zip(filters, spec.filters, strict=True)):
        raise UsageError(
            f"The channels to keep are one number a block, at most those of the teacher ({most}); found {counts!r}."
        )
    return _with_filters(spec, filters)


def _with_filters(spec: NetworkSpec, filters: tuple[int, ...]) -> NetworkSpec:
    return replace(spec, name=f"pruned-{'-'.join(map(str, filters))}", filters=filters)


def prune_weights(model: keras.Model, filters: tuple[int, ...]) -> list[Array]:
    """Weights of a chain of blocks with so many filters, those of the most important channels.

    The importance of a channel is the standard deviation of what it contributes to the next layer: the scale of its
    batch normalisation, folded with the running variance, times the norm of the weights that read it. What a channel
    contributes on average is added to the next layer's bias, since the convolutions do not pad.

    Parameters
    ----------
    model
        See `find_spec`.
    """
    blocks, head = _split_layers(model)
    kept: NDArray[np.int64] | None = None
    bias: Array | float = 0.0
    weights: list[Array] = []
    readers = [block[0].get_weights()[0] for block in blocks[1:]] + [head[0].get_weights()[0]]
    for (convolution, normalization), reader, count in zip(blocks, readers, filters, strict=True):
        kernel, own_bias = convolution.get_weights()
        scale, shift, mean, variance = normalization.get_weights()
        kernel = kernel if kept is None else kernel[..., kept, :]
        own_bias = own_bias + bias
        rows = reader.reshape(-1, *reader.shape[-2:])  # (positions, channels read, outputs)
        folded = np.abs(scale) * np.sqrt(variance / (variance + normalization.epsilon))
        importance = folded * np.sqrt(np.square(rows).sum(axis=(0, 2)))
        kept = np.sort(np.argsort(-importance, kind="stable")[:count])
        gone = np.setdiff1d(np.arange(len(importance)), kept)
        bias = np.einsum("c,pco->o", shift[gone], rows[:, gone])
        weights += [kernel[..., kept], own_bias[kept]]
        weights += [values[kept] for values in (scale, shift, mean, variance)]
    kernel, own_bias = head[0].get_weights()
    return [*weights, kernel[kept], own_bias + bias, *head[1].get_weights()]


def _split_layers(model: keras.Model) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Convolution and batch normalisation of each block, and the dense layers."""
    kinds = keras.layers.Conv3D, keras.layers.BatchNormalization, keras.layers.Dense
    convolutions, normalizations, dense = (
        [layer for layer in model.layers if isinstance(layer, kind)] for kind in kinds
    )
    return list(zip(convolutions, normalizations, strict=True)), dense
