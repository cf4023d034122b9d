"""A file is refused where the CPU fails; another provider that fails is named, and later refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.errors import CheckFailedError, ProviderError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.run_report import RunReport
from ct3d_edge.session.runner import Runner

Volumes = list[NDArray[np.float32]]


class StandIn(Runner):
    """OpenVINO as the CPU provider, failing as the test says."""

    failure: str

    def __init__(self, model: Any, request: Any) -> None:
        self._asked = requested = request.provider
        if requested == "openvino" and self.failure == "refuses":
            raise ProviderError("Provider openvino cannot do the work here. openvino: it refused the model (Loop)")
        super().__init__(model, replace(request, provider="cpu"))
        if requested == "openvino":
            self.run_report = RunReport(**{**vars(self.run_report), "actual": "openvino"})

    def infer(self, volumes: NDArray[np.float32]) -> NDArray[np.float64]:
        found = super().infer(volumes)
        return found[:, ::-1] if self._asked == self.failure else found


def export_with_openvino(
    save_network: SaveNetwork, volumes: Volumes, out: Path, plan: CompileOptions | None = None
) -> None:
    """Export a tiny network that is checked on OpenVINO, too."""
    export_model(
        load_keras_source(save_network(tiny_network())),
        out,
        ParityDataset(volumes, "noise"),
        options=plan or CompileOptions("none"),
        providers=("cpu", "openvino"),
    )


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("refuses", "cannot run it: it refused the model (Loop)"),
        ("openvino", "predicts wrongly: The parity check failed:"),
    ],
)
def test_a_provider_that_fails_is_noted_and_refused_later(
    save_network: SaveNetwork,
    volumes: Volumes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
    failure: str,
    reason: str,
) -> None:
    monkeypatch.setattr("ct3d_edge.conversion.parity.provider_parity.Runner", StandIn)
    monkeypatch.setattr(StandIn, "failure", failure, raising=False)
    out = tmp_path / "out.onnx"
    export_with_openvino(save_network, volumes, out)
    assert "checking parity on cpu, openvino ..." in log.messages
    assert f"the file is not for openvino: it {reason}" in log.text
    file = load_model_file(out)
    assert file.provenance["not_for"]["openvino"].startswith(reason)
    assert file.provenance["proof"]["provider"] == "cpu"
    assert "further_proofs" not in file.provenance
    with pytest.raises(
        ProviderError, match=r"openvino: out.onnx is not for it: as its export found, it (cannot|predicts)"
    ):
        Runner(file, SessionRequest("openvino"))
    with Runner(file, SessionRequest("cpu")) as runner:
        assert np.isfinite(runner.infer(volumes[0][None])).all()


def test_a_wrong_answer_of_the_cpu_refuses_the_file(
    save_network: SaveNetwork, volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.conversion.parity.provider_parity.Runner", StandIn)
    monkeypatch.setattr(StandIn, "failure", "cpu", raising=False)
    with pytest.raises(CheckFailedError, match="The parity check failed"):
        export_with_openvino(save_network, volumes, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_that_openvino_answers_rightly_has_its_proof(
    openvino: None, save_network: SaveNetwork, volumes: Volumes, tmp_path: Path
) -> None:
    export_with_openvino(save_network, volumes, tmp_path / "out.onnx", CompileOptions("fast"))
    provenance = load_model_file(tmp_path / "out.onnx").provenance
    assert [parity["provider"] for parity in provenance["further_proofs"]] == ["openvino"]
    assert "not_for" not in provenance


@pytest.mark.slow
def test_a_recurrent_network_is_exported_and_not_for_openvino(
    openvino: None, save_network: SaveNetwork, volumes: Volumes, tmp_path: Path
) -> None:
    import keras

    given = keras.Input((*volumes[0].shape, 1))
    pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.Conv3D(4, 3)(given))
    states = keras.layers.GRU(3)(keras.layers.Reshape((4, 1))(pooled))
    network = keras.Model(given, keras.layers.Dense(1, activation="sigmoid")(states))
    source = load_keras_source(save_network(network))
    out = tmp_path / "gru.onnx"
    export_model(
        source,
        out,
        ParityDataset(volumes, "noise"),
        options=CompileOptions("none"),
        providers=("cpu", "openvino"),
    )
    assert load_model_file(out).provenance["not_for"]["openvino"].startswith("cannot run it: it refused the model")
