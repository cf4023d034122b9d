"""Every architecture of the zoo, small: Keras and each form of the graph compute the same."""

import pytest
from networks import KERAS

if not KERAS:
    pytest.skip("the extra 'train' is not installed", allow_module_level=True)

import numpy as np
import onnx
from graphs import answers

from bench.zoo.catalogue import ARCHITECTURES, build_network
from ct3d_edge.contract import Contract
from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
from ct3d_edge.conversion.passes.pipeline import Level, Target, optimize_graph

CLOSE = 1e-5
"""Of a logit."""

FORMS: tuple[tuple[Level, Target, int | None], ...] = (
    ("exact", "cpu", None),
    ("fast", "cpu", None),
    ("fast", "no-conv3d", None),
    ("small", "cpu", 200_000),
)

QUICK = ("resnet18", "convnext", "unet", "conv-lstm")


def logits(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    (probabilities,) = answers(proto, batch)
    wide = probabilities.astype(np.float64)
    return np.asarray(np.log(wide / (1 - wide)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_every_form_of_an_architecture_answers_as_keras_does(name: str) -> None:
    network = build_network(name, "small")
    shape = network.inputs[0].shape[1:]
    batch = np.random.default_rng(0).random((2, *shape), np.float32)
    expected = np.asarray(network(batch, training=False), np.float64)
    plain = convert_to_onnx(network, Contract(shape=shape[:3]))
    assert logits(plain, batch) == pytest.approx(np.log(expected / (1 - expected)), abs=CLOSE)
    for level, target, max_memory in FORMS:
        done = optimize_graph(plain, level, target, max_memory, strict=True).proto
        onnx.checker.check_model(done, full_check=True)
        assert logits(done, batch) == pytest.approx(logits(plain, batch), abs=CLOSE), (level, target)
