"""The features that a Keras network pools, beside its answer. For rooms that have imported Keras already."""

from typing import Any


def with_pooled_features(network: Any) -> Any | None:
    """A Keras model with two outputs: what the one global average pooling gives, ``(N, C)``, and the network's answer.

    Weights are shared with ``network``. None if it does not pool in that way, so that there are no such features.
    """
    import keras

    pooled = [layer.output for layer in network.layers if isinstance(layer, keras.layers.GlobalAveragePooling3D)]
    if len(pooled) != 1 or len(pooled[0].shape) != 2:
        return None
    return keras.Model(network.inputs[0], [pooled[0], network.outputs[0]])
