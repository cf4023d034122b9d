"""Every architecture of the zoo, small: Keras and each form of the graph compute the same."""

import subprocess
import sys
from pathlib import Path

import pytest
from networks import KERAS

if not KERAS:
    pytest.skip("the extra 'train' is not installed", allow_module_level=True)

import numpy as np
import onnx
from graphs import answers

from bench.zoo.catalogue import ARCHITECTURES, build_network
from ct3d_edge.contract import Contract
from ct3d_edge.conversion.direct.convert import convert_directly
from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
from ct3d_edge.conversion.passes.pipeline import Level, Target, optimize_graph
from ct3d_edge.latency.record import read_record

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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_an_architecture_that_is_written_layer_by_layer_answers_as_keras_does(name: str) -> None:
    network = build_network(name, "small")
    shape = network.inputs[0].shape[1:]
    batch = np.random.default_rng(0).random((2, *shape), np.float32)
    expected = np.asarray(network(batch, training=False), np.float64)
    plain = convert_directly(network, Contract(shape=shape[:3]))
    onnx.checker.check_model(plain, full_check=True)
    assert logits(plain, batch) == pytest.approx(np.log(expected / (1 - expected)), abs=CLOSE)
    for level, target, max_memory in FORMS:
        done = optimize_graph(plain, level, target, max_memory, strict=True).proto
        assert logits(done, batch) == pytest.approx(logits(plain, batch), abs=CLOSE), (level, target)


@pytest.mark.slow
def test_the_command_writes_a_row_for_each_form(tmp_path: Path) -> None:
    options = ["--size", "small", "--only", "normalised-input", "--forms", "fast", "--rounds", "2"]
    command = [sys.executable, "-m", "bench.zoo", *options, "--out", str(tmp_path / "zoo.json")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| normalised-input")]
    assert [row[1] for row in rows] == ["none", "fast"]
    assert all(row[2] == "0" and float(row[3]) < 1e-5 for row in rows)
    assert rows[0][4].endswith("(1.00)")
    assert len(read_record(tmp_path / "zoo.json").samples.counted["normalised-input: fast"]) == 2
