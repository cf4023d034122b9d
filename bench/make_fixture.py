"""Make the network, the scans and the expected results of a comparison.

The network is that of the bundled model, unless another is named. Its probabilities are those of Keras; a prepared scan
is the published tutorial's (nibabel and SciPy).
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.bundled_network import restore_network
from bench.fixture import KINDS, Fixture
from bench.peers import tutorial
from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.keras_backend import import_keras

if TYPE_CHECKING:
    import onnx

    from ct3d_edge.conversion.keras_loader import KerasSource
    from ct3d_edge.conversion.parity.parity_data import CalibrationData
    from ct3d_edge.conversion.passes.pipeline import Level, Target

SEED = 5
"""Of the statistics of batch normalisations."""

PHANTOMS = {"normal": 31_000, "abnormal": 31_001}
PHANTOM_SHAPE = (512, 512, 40)
LEVELS: tuple["Level", ...] = ("exact", "fast", "small")
REDUCED_LEVELS: tuple["Level", ...] = ("exact", "fast")
BISECTION_STEPS = 12

PredictFn = Callable[[NDArray[np.float32]], float]


def make_fixture(folder: Path, network: Path | None, scans: list[Path]) -> Fixture:
    """Write everything that contestants need.

    Parameters
    ----------
    folder
        Empty, or not there yet.
    network
        A .keras file; that of the bundled model if None.
    scans
        Scan files; phantoms of MosMedData's size if there are none.
    """
    import_keras()
    (folder / "scans").mkdir(parents=True)
    fixture = Fixture(folder)
    if network:
        shutil.copyfile(network, fixture.keras)
    else:
        restore_network(fixture.keras)
    _copy_scans(folder / "scans", scans)
    _write_files(fixture)
    return fixture


def randomize_statistics(model: Any) -> None:
    """Give batch normalisations other statistics than 0 and 1, which a rewrite of the graph could drop."""
    import keras

    draw = np.random.default_rng(SEED)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, shift, mean, variance = layer.get_weights()
            drawn = [draw.uniform(0.5, 1.5, weight.shape) for weight in (scale, variance)]
            layer.set_weights([drawn[0], shift + 0.1, mean + 0.1, drawn[1]])


def _copy_scans(folder: Path, scans: list[Path]) -> None:
    for path in scans:
        shutil.copyfile(path, folder / path.name)
    if not scans:
        for name, seed in PHANTOMS.items():
            phantom = make_phantom(seed, abnormal=name == "abnormal", shape=PHANTOM_SHAPE)
            save_scan(phantom, folder / f"{name}.nii.gz")


def _write_files(fixture: Fixture) -> None:
    from ct3d_edge.conversion.keras_loader import load_keras_source

    source = load_keras_source(fixture.keras)
    write_onnx(source, fixture)
    write_weights(source.network, fixture.weights)
    prepared = np.stack([tutorial.preprocess(path, source.contract.shape) for path in fixture.scans])
    normal, abnormal = (prepare_phantom(kind, source.contract) for kind in PHANTOMS)

    def judge(volume: NDArray[np.float32]) -> float:
        batch = volume.reshape(1, *source.contract.input_shape)
        return float(np.asarray(source.network(batch, training=False))[0, 0])

    volumes = np.stack([normal, abnormal, find_uncertain_mixture(normal, abnormal, judge)])
    np.save(fixture.folder / "volumes.npy", volumes)
    network, preprocessing, decision = KINDS
    np.save(fixture.folder / f"{network}.npy", np.array([[judge(volume)] for volume in volumes], np.float32))
    np.save(fixture.folder / f"{preprocessing}.npy", prepared)
    np.save(fixture.folder / f"{decision}.npy", np.array([[judge(volume)] for volume in prepared], np.float32))


def prepare_phantom(kind: str, contract: Contract) -> NDArray[np.float32]:
    """A network input of a normal or an abnormal phantom."""
    phantom = make_phantom(PHANTOMS[kind], abnormal=kind == "abnormal", shape=(128, 128, 64))
    return tutorial.resize(tutorial.normalise(np.asarray(phantom.hu, np.float64)), contract.shape)


def find_uncertain_mixture(
    one: NDArray[np.float32], other: NDArray[np.float32], judge: PredictFn
) -> NDArray[np.float32]:
    """A mixture of two volumes, by halving, that the network is least sure of.

    Near 0 and 1 a probability hides what differs; near one half every difference of the logit shows.
    """
    low, high = 0.0, 1.0
    above = judge(other) > judge(one)
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        if (judge(mix_volumes(one, other, middle)) > 0.5) == above:
            high = middle
        else:
            low = middle
    return mix_volumes(one, other, high)


def mix_volumes(one: NDArray[np.float32], other: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """``share`` of the second volume, the rest of the first."""
    return ((1 - share) * one + share * other).astype(np.float32)


def write_onnx(source: "KerasSource", fixture: Fixture) -> None:
    """As tf2onnx writes it, rewritten, in fewer bits, and with the preprocessing inside, each with a contract."""
    from ct3d_edge.conversion.fused_io.fuse import fuse_io
    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
    from ct3d_edge.conversion.parity.parity_data import load_calibration_data
    from ct3d_edge.conversion.passes.pipeline import optimize_graph
    from ct3d_edge.modelfile.model_file import attach_metadata, load_model_file
    from ct3d_edge.session.golden_search import make_golden_test

    plain = convert_to_onnx(source.network, source.contract)
    golden = make_golden_test(source.probabilities, source.contract.shape)
    calibration = load_calibration_data(None, None, source.contract)
    volumes = list(calibration)
    np.save(fixture.folder / "calibration.npy", np.stack(volumes))
    calibration = replace(calibration, volumes=volumes)
    rewritten = {str(level): optimize_graph(plain, level, strict=True).proto for level in LEVELS}
    halved = {f"{level}_fp16": convert_to_fp16(rewritten[level], source.contract) for level in REDUCED_LEVELS}
    integers = make_int8_files(plain, source.contract, calibration)
    files = {"tf2onnx": plain, **rewritten, **halved, **integers}
    files["openvino"] = optimize_graph(plain, "fast", target="openvino", strict=True).proto
    for name, proto in files.items():
        attach_metadata(proto, source.contract, golden, {})
        (fixture.folder / f"{name}.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    whole = fuse_io(load_model_file(fixture.onnx("fast")))
    (fixture.folder / "voxels.onnx").write_bytes(whole.SerializeToString(deterministic=True))


def convert_to_fp16(proto: "onnx.ModelProto", contract: Contract) -> "onnx.ModelProto":
    """A graph in float16 but for the nodes that two phantoms show to be at risk."""
    from ct3d_edge.conversion.graph_variant import make_fp16_variant
    from ct3d_edge.conversion.precision.fp16_sensitivity import find_fp16_sensitive_nodes, measure_ranges

    volumes = [prepare_phantom(kind, contract).reshape(1, *contract.input_shape) for kind in PHANTOMS]
    return make_fp16_variant(proto, find_fp16_sensitive_nodes(proto, measure_ranges(proto, volumes))).proto


def make_int8_files(
    plain: "onnx.ModelProto", contract: Contract, calibration: "CalibrationData"
) -> dict[str, "onnx.ModelProto"]:
    """Graphs in 8-bit integers by the names of `Fixture.onnx`."""
    made = {f"{level}_int8": convert_to_int8(plain, level, contract, calibration) for level in REDUCED_LEVELS}
    return made | {"openvino_int8": convert_to_int8(plain, "fast", contract, calibration, "openvino")}


def convert_to_int8(
    plain: "onnx.ModelProto",
    level: "Level",
    contract: Contract,
    calibration: "CalibrationData",
    target: "Target" = "cpu",
) -> "onnx.ModelProto":
    """A graph in 8-bit integers, as `optimize --precision int8` makes it."""
    from ct3d_edge.conversion.graph_variant import CompileOptions, make_variant, rewrite_graph

    options = CompileOptions(level, target, precision="int8")
    return make_variant(plain, rewrite_graph(plain, options), options, contract, calibration).proto


def write_weights(network: Any, path: Path) -> None:
    """Arrays of all layers that have weights, in order: ``00.Conv3D.0``, ``00.Conv3D.1``, ``01.BatchNorm...``."""
    layers = [layer for layer in network.layers if layer.get_weights()]
    np.savez(
        path,
        **{
            f"{place:02}.{type(layer).__name__}.{number}": weight
            for place, layer in enumerate(layers)
            for number, weight in enumerate(layer.get_weights())
        },
    )
