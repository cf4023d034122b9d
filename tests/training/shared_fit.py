"""Train the tiny network on one device and on two, in this process; print figures, weights and dropout masks as JSON.

With SGD: where a gradient is zero but for rounding Adam makes a whole step of it, so that with Adam no two ways of
adding up agree.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import tensorflow as tf
from training.distributed_run import SIZE, network, split_cpu

from ct3d_edge.contract import Contract
from ct3d_edge.splits.split import Split, SplitEntry, Subset
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.data import ScanArrays
from ct3d_edge.training.distributed import Distribution, count_replicas, open_strategy, scope
from ct3d_edge.training.distributed_step import prepare_for_replicas
from ct3d_edge.training.loop import fit
from ct3d_edge.training.presets import DEFAULT

SUBSETS: tuple[Subset, ...] = tuple("train" if row < 10 else "validation" for row in range(17))
"""With batches of 4 both kinds of last batch: one of 2, and one of 3 scans for two devices."""


class Figures(keras.callbacks.Callback):  # type: ignore[misc]  # Keras publishes no types
    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self.epochs.append({name: float(value) for name, value in (logs or {}).items()})


def arrays() -> ScanArrays:
    """Noise, brighter in the second class, which is the smaller one."""
    labels = np.array([row % 3 == 0 for row in range(len(SUBSETS))], np.float32)
    rng = np.random.default_rng(0)
    volumes = 0.5 * rng.random((len(SUBSETS), *SIZE), np.float32) + 0.3 * labels[:, None, None, None]
    entries = [
        SplitEntry(f"{'ab'[int(label)]}/{row}.nii", "ab"[int(label)], f"{row:064x}", subset)
        for row, (label, subset) in enumerate(zip(labels, SUBSETS, strict=True))
    ]
    return ScanArrays(volumes, labels, {}, Split(("a", "b"), 0, 0.3, 0.0, None, tuple(entries)))


def trained(kind: Distribution) -> dict[str, Any]:
    strategy = open_strategy(kind)
    keras.utils.set_random_seed(1)
    figures = Figures()
    with scope(strategy):
        model = network(*SIZE)
        auc = keras.metrics.AUC(name="auc")
        model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy", metrics=["accuracy", auc])
        fit(
            strategy,
            model,
            TrainingData.of(arrays(), Contract(shape=SIZE), DEFAULT, 3, count_replicas(strategy)),
            range(3),
            [figures],
        )
    return {"epochs": figures.epochs, "weights": [weight.tolist() for weight in model.get_weights()]}


def masks() -> list[list[list[float]]]:
    """What dropout leaves of ones: by step and device."""
    strategy = open_strategy("mirrored")
    assert strategy is not None
    with scope(strategy):
        volume = keras.Input((40,))
        model = keras.Model(volume, keras.layers.Dropout(0.5)(volume))
        model.compile(loss="mse")
        prepare_for_replicas(model)
        step = tf.function(lambda: strategy.run(lambda: model(tf.ones((1, 40)), training=True)))
        return [[mask.numpy()[0].tolist() for mask in strategy.experimental_local_results(step())] for _ in range(2)]


if __name__ == "__main__":
    split_cpu(2)
    print(json.dumps({"one": trained("none"), "two": trained("mirrored"), "masks": masks()}))
