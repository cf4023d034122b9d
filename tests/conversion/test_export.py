import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test

Volumes = list[NDArray[np.float32]]


def test_the_file_describes_and_proves_itself(save_network: SaveNetwork, tmp_path: Path, volumes: Volumes) -> None:
    source = load_keras_source(save_network())
    out = tmp_path / "tiny.onnx"
    exported = export_model(source, out, ParityDataset(volumes, "noise"))
    file = load_model_file(out)
    assert file.sha256 == exported.model.sha256
    assert file.contract == source.contract
    assert (file.input_name, file.output_name) == ("volume", "probability")
    assert file.provenance["source"]["sha256"] == hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert file.provenance["proof"]["volumes"] == 8
    assert file.provenance["nodes"] == file.nodes
    assert {"tensorflow", "keras", "tf2onnx", "onnx"} <= set(file.provenance["tools"])
    onnx.checker.check_model(onnx.load(out), full_check=True)
    with Runner(file, SessionRequest("cpu")) as runner:
        assert run_golden_test(runner).largest_difference < 1e-5


@pytest.mark.parametrize(
    ("shape", "outputs", "activation"),
    [
        ((1, 16, 12, 8), 1, "sigmoid"),
        ((16, 12, 8), 1, None),
        ((16, 12, 8, 1), 3, "softmax"),
        ((16, 12, 8, 1), 2, None),
    ],
)
def test_networks_of_other_forms_export_too(
    save_network: SaveNetwork,
    tmp_path: Path,
    volumes: Volumes,
    shape: tuple[int, ...],
    outputs: int,
    activation: str | None,
) -> None:
    source = load_keras_source(save_network(tiny_network(shape, outputs, activation)))
    exported = export_model(source, tmp_path / "tiny.onnx", ParityDataset(volumes, "noise"))
    assert exported.parity.passed
    assert exported.model.output_name == ("probability" if activation else "logit")


def test_a_sequential_network_exports_too(save_network: SaveNetwork, tmp_path: Path, volumes: Volumes) -> None:
    import keras

    network = keras.Sequential(
        [
            keras.Input((16, 12, 8, 1)),
            keras.layers.Conv3D(2, 3, activation="relu"),
            keras.layers.GlobalMaxPooling3D(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    assert export_model(
        load_keras_source(save_network(network)), tmp_path / "a.onnx", ParityDataset(volumes, "noise")
    ).parity.passed


def test_the_batch_axis_stays_open(save_network: SaveNetwork, tmp_path: Path, volumes: Volumes) -> None:
    exported = export_model(load_keras_source(save_network()), tmp_path / "tiny.onnx", ParityDataset(volumes, "noise"))
    with Runner(exported.model, SessionRequest("cpu")) as runner:
        together = runner.infer(np.stack(volumes))
        alone = np.vstack([runner.infer(volume[None]) for volume in volumes])
    assert together == pytest.approx(alone, abs=1e-6)


def test_a_failed_proof_leaves_no_file_and_an_old_one_as_it_was(
    save_network: SaveNetwork, tmp_path: Path, volumes: Volumes
) -> None:
    source = load_keras_source(save_network())
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(CheckFailedError):
        export_model(source, folder / "new.onnx", ParityDataset(volumes, "noise", limit=-1))
    assert list(folder.iterdir()) == []
    (folder / "old.onnx").write_bytes(b"proven before")
    with pytest.raises(CheckFailedError):
        export_model(source, folder / "old.onnx", ParityDataset(volumes, "noise", limit=-1))
    assert (folder / "old.onnx").read_bytes() == b"proven before"


def test_too_few_volumes_leave_no_file(save_network: SaveNetwork, tmp_path: Path, volumes: Volumes) -> None:
    with pytest.raises(UsageError):
        export_model(load_keras_source(save_network()), tmp_path / "out.onnx", ParityDataset(volumes[:3], "noise"))
    assert not (tmp_path / "out.onnx").exists()


def test_what_tf2onnx_cannot_convert_is_a_model_error(
    save_network: SaveNetwork, tmp_path: Path, volumes: Volumes
) -> None:
    import keras

    volume = keras.Input((16, 12, 8, 1))
    pooled = keras.layers.GlobalAveragePooling3D()(volume)
    strange = keras.ops.lgamma(pooled + 2.0) if hasattr(keras.ops, "lgamma") else keras.ops.erfinv(pooled)
    network = keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(strange))
    with pytest.raises(ModelError):
        export_model(load_keras_source(save_network(network)), tmp_path / "out.onnx", ParityDataset(volumes, "noise"))
    assert not (tmp_path / "out.onnx").exists()


def test_metadata_is_plain_json(save_network: SaveNetwork, tmp_path: Path, volumes: Volumes) -> None:
    out = tmp_path / "tiny.onnx"
    export_model(load_keras_source(save_network()), out, ParityDataset(volumes, "noise"))
    entries = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert set(entries) == {"ct3d.contract", "ct3d.golden", "ct3d.provenance"}
    assert all(isinstance(json.loads(value), dict) for value in entries.values())
