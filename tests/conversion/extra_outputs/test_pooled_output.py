"""The output from which it is told whether a scan is like those of training: there, right and proven in every file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import SHAPE, SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.extra_outputs.pooled_output import (
    add_pooled_output,
    check_converted_features,
    make_keras_pooled_fn,
)
from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.keras_loader import KerasSource, load_keras_source
from ct3d_edge.conversion.optimize import load_for_compiling, optimize_model
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.errors import CheckFailedError, ContractError
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.quality_control.domain_shift import MahalanobisOOD
from ct3d_edge.quality_control.reference_stats import fit_feature_statistics
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test

Volumes = list[NDArray[np.float32]]


def noise(count: int, seed: int) -> Volumes:
    """Network inputs of several brightnesses."""
    draw = np.random.default_rng(seed)
    return [draw.random(SHAPE, np.float32) * np.float32(draw.uniform(0.2, 1)) for _ in range(count)]


def pooled(source: KerasSource, volumes: Volumes) -> NDArray[np.float64]:
    compute = make_keras_pooled_fn(source)
    assert compute is not None
    return np.stack([compute(volume)[0] for volume in volumes])


@pytest.fixture
def source(save_network: SaveNetwork) -> KerasSource:
    """A tiny network whose contract holds statistics of its own features."""
    bare = load_keras_source(save_network())
    statistics = fit_feature_statistics(pooled(bare, noise(30, 1)), pooled(bare, noise(15, 2)))
    return replace(bare, contract=replace(bare.contract, feature_statistics=statistics))


def moved(file: ModelFile, source: KerasSource, volumes: Volumes, *, explain: bool = False) -> float:
    """By what part of the threshold the distances of a file lie from Keras's."""
    known = source.contract.feature_statistics
    assert known is not None
    distances = MahalanobisOOD(known).distances
    with Runner(file, SessionRequest("cpu", threads=1, gradcam=explain)) as runner:
        found = runner.outputs(np.stack(volumes))
        alone = [runner.outputs(volume[None]).pooled for volume in volumes]
        assert np.array_equal(found.probabilities, runner.infer(np.stack(volumes)))
        assert run_golden_test(runner).passed
    assert found.pooled is not None
    assert found.pooled == pytest.approx(np.concatenate([row for row in alone if row is not None]), abs=1e-5)
    assert (found.features is not None) == explain
    return float(np.abs(distances(found.pooled) - distances(pooled(source, volumes))).max() / known.threshold)


PLANS: dict[str, tuple[dict[str, Any], float]] = {
    "as converted": ({"level": "none"}, 1e-4),
    "exact": ({"level": "exact"}, 1e-4),
    "fast": ({"level": "fast"}, 1e-4),
    "small": ({"level": "small"}, 1e-4),
    "for CUDA": ({"level": "fast", "target": "cuda"}, 1e-4),
    "without Conv3D": ({"level": "fast", "target": "no-conv3d"}, 1e-4),
    "weights in fp16": ({"weight_dtype": "fp16"}, 0.05),
    "fp16": ({"precision": "fp16", "target": "cuda"}, 0.05),
    "int8": ({"precision": "int8"}, 0.5),
}


@pytest.mark.parametrize(("asked", "limit"), PLANS.values(), ids=PLANS)
def test_every_rewriting_keeps_the_output(
    source: KerasSource, tmp_path: Path, asked: dict[str, Any], limit: float
) -> None:
    volumes = noise(8, 3)
    calibration = CalibrationData(noise(8, 4), "noise")
    made = export_model(
        source,
        tmp_path / "tiny.onnx",
        ParityDataset(volumes, "noise"),
        options=CompileOptions(**asked),
        calibration=calibration,
    )
    file = load_model_file(made.model.path)
    assert file.pooled == 4
    assert moved(file, source, volumes) < limit
    told = file.provenance["proof"]["pooled_features"]
    assert told["volumes"] == 2
    assert told["distance_difference"] < limit
    assert made.parity.tensors is not None or "fp16" in asked.values()
    onnx.checker.check_model(onnx.load(made.model.path), full_check=True)


def test_a_file_may_explain_as_well(source: KerasSource, tmp_path: Path) -> None:
    volumes = noise(8, 3)
    made = export_model(
        source, tmp_path / "tiny.onnx", ParityDataset(volumes, "noise"), options=CompileOptions(gradcam_output=True)
    )
    assert moved(made.model, source, volumes, explain=True) < 1e-4


def test_optimizing_a_file_again_keeps_it(source: KerasSource, tmp_path: Path) -> None:
    volumes = noise(8, 3)
    export_model(source, tmp_path / "plain.onnx", ParityDataset(volumes, "noise"), options=CompileOptions(level="none"))
    given = load_for_compiling(tmp_path / "plain.onnx")
    made = optimize_model(
        given, tmp_path / "fast.onnx", ParityDataset(volumes, "noise"), options=CompileOptions(gradcam_output=True)
    )
    assert moved(made.model, source, volumes, explain=True) < 1e-4


def test_the_proof_compares_it(source: KerasSource, tmp_path: Path) -> None:
    made = export_model(
        source, tmp_path / "tiny.onnx", ParityDataset(noise(8, 3), "noise"), options=CompileOptions(level="none")
    )
    without = export_model(
        replace(source, contract=source.contract.without_training_stats),
        tmp_path / "bare.onnx",
        ParityDataset(noise(8, 3), "noise"),
        options=CompileOptions(level="none"),
    )
    assert made.parity.tensors is not None
    assert without.parity.tensors is not None
    assert made.parity.tensors.compared == without.parity.tensors.compared + 1
    assert without.model.pooled is None
    assert POOLED_OUTPUT not in {value.name for value in onnx.load(without.model.path).graph.output}


def test_features_that_a_file_spoils_stop_its_export(
    source: KerasSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Runner.outputs

    def spoilt(runner: Runner, volumes: NDArray[np.float32]) -> Any:
        found = given(runner, volumes)
        return found._replace(pooled=None if found.pooled is None else found.pooled * 1.01)

    monkeypatch.setattr(Runner, "outputs", spoilt)
    with pytest.raises(CheckFailedError, match=r"Pooled features on cpu differ by 1\.0e-02 of the largest"):
        export_model(source, tmp_path / "tiny.onnx", ParityDataset(noise(8, 3), "noise"))
    assert not (tmp_path / "tiny.onnx").exists()


def converted(source: KerasSource) -> onnx.ModelProto:
    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx

    return add_pooled_output(convert_to_onnx(source.network, source.contract), source.contract)


def test_features_that_are_not_those_of_keras_stop_the_export(source: KerasSource) -> None:
    proto = converted(source)
    check_converted_features(proto, source)
    (node,) = [node for node in proto.graph.node if POOLED_OUTPUT in node.output]
    node.op_type = "Identity"
    del node.input[1]
    mean, node.input[0] = node.input[0], "twice"
    proto.graph.node.insert(len(proto.graph.node) - 1, onnx.helper.make_node("Add", [mean, mean], ["twice"]))
    assert next(iter(IntermediateOutputs(proto, [POOLED_OUTPUT]).tensors(np.ones((1, *SHAPE, 1), np.float32))))[
        1
    ].shape == (
        1,
        4,
    )
    with pytest.raises(CheckFailedError, match=r"differ from Keras's by .* of the largest"):
        check_converted_features(proto, source)


def test_statistics_of_another_network_are_refused(source: KerasSource, tmp_path: Path) -> None:
    from training_stats import statistics

    foreign = replace(source, contract=replace(source.contract, feature_statistics=statistics(7)))
    with pytest.raises(ContractError, match="statistics of 7 features; the network beside it pools 4"):
        export_model(foreign, tmp_path / "tiny.onnx", ParityDataset(noise(8, 3), "noise"))


def test_a_network_that_pools_nothing_has_no_features(
    source: KerasSource, save_network: SaveNetwork, tmp_path: Path
) -> None:
    import keras

    volume = keras.Input((*SHAPE, 1))
    flat = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(keras.layers.MaxPool3D(4)(volume)))
    other = load_keras_source(save_network(keras.Model(volume, flat), "flat.keras"))
    assert make_keras_pooled_fn(other) is None
    known = replace(other.contract, feature_statistics=source.contract.feature_statistics)
    with pytest.raises(ContractError, match="do not belong together"):
        export_model(replace(other, contract=known), tmp_path / "flat.onnx", ParityDataset(noise(8, 3), "noise"))


def of_another_kind(save_network: SaveNetwork, *behind: Any) -> KerasSource:
    """A network with other layers behind its pooling, whose contract holds statistics of its features."""
    import keras

    tiny = tiny_network()
    x = next(layer.output for layer in tiny.layers if isinstance(layer, keras.layers.GlobalAveragePooling3D))
    for layer in behind:
        x = layer(x)
    network = keras.Model(tiny.inputs[0], keras.layers.Dense(1, activation="sigmoid")(x))
    bare = load_keras_source(save_network(network, "other.keras"))
    statistics = fit_feature_statistics(pooled(bare, noise(30, 1)), pooled(bare, noise(15, 2)))
    return replace(bare, contract=replace(bare.contract, feature_statistics=statistics))


def test_a_head_that_cannot_be_explained_has_features_all_the_same(save_network: SaveNetwork, tmp_path: Path) -> None:
    import keras

    source = of_another_kind(save_network, keras.layers.Dense(5, activation="tanh"))
    made = export_model(source, tmp_path / "tanh.onnx", ParityDataset(noise(8, 3), "noise"))
    assert made.model.pooled == 4
    assert moved(made.model, source, noise(8, 3)) < 1e-4


def test_without_a_single_pooling_the_file_has_no_features_and_a_warning_says_so(
    save_network: SaveNetwork, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    import keras

    source = of_another_kind(save_network, keras.layers.Dense(5, activation="tanh"), keras.layers.LayerNormalization())
    made = export_model(source, tmp_path / "norm.onnx", ParityDataset(noise(8, 3), "noise"))
    assert made.model.pooled is None
    assert made.model.contract == replace(source.contract, feature_statistics=None)
    assert "scans are not checked for being out of distribution" in log.text


def test_two_outputs_of_keras_are_those_of_the_network(source: KerasSource) -> None:
    (volume,) = noise(1, 7)
    compute = make_keras_pooled_fn(source)
    assert compute is not None
    features, probabilities = compute(volume)
    assert probabilities == pytest.approx(source.probabilities(volume), abs=1e-6)
    weights, bias = tiny_network().layers[-1].get_weights()
    logit = features @ weights[:, 0] + bias[0]
    assert probabilities[1] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
