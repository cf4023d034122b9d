import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from builders import TRITON_CLIENT, MakeModel, PeerPython

from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.model_repository import package
from ct3d_edge.model_repository.package import package_model
from ct3d_edge.modelfile.model_file import load_model_file


def test_the_tree_has_the_model_and_a_request_with_its_answer(tmp_path: Path, make_model: MakeModel) -> None:
    path = make_model()
    made = package_model(path, tmp_path / "out", "triton", name="lung")
    home = made.folder / "lung"
    assert (home / "1" / "model.onnx").read_bytes() == path.read_bytes()
    assert (home / "labels.txt").read_text().split() == ["normal", "abnormal"]
    header = json.loads((home / "warmup" / "request.json").read_text())
    (entry,) = header["inputs"]
    raw = (home / "warmup" / entry["name"]).read_bytes()
    assert len(raw) == entry["parameters"]["binary_data_size"]
    volume = np.frombuffer(raw, "<f4").reshape(entry["shape"])
    (answer,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        [header["outputs"][0]["name"]], {entry["name"]: volume}
    )
    assert made.expected == pytest.approx(np.ravel(answer))
    length = re.search(r"Content-Length: (\d+)", (made.folder / "README.md").read_text())
    assert length
    assert int(length[1]) == (home / "warmup" / "request.json").stat().st_size


@pytest.mark.parametrize(
    ("device", "batch", "kind"),
    [("cpu", "max_batch_size: 1\n", "KIND_CPU"), ("gpu", "max_batch_size: 8\n", "KIND_GPU")],
)
def test_the_batch_is_never_left_to_the_server(
    tmp_path: Path, make_model: MakeModel, device: str, batch: str, kind: str
) -> None:
    package_model(make_model(), tmp_path / "out", "triton", device=device)  # type: ignore[arg-type]
    config = (tmp_path / "out" / "tiny" / "config.pbtxt").read_text()
    assert batch in config
    assert kind in config
    assert ("dynamic_batching" in config) == (device == "gpu")


def test_each_server_gets_its_own_configuration(tmp_path: Path, make_model: MakeModel) -> None:
    package_model(make_model(), tmp_path / "o", "ovms")
    (entry,) = json.loads((tmp_path / "o" / "config.json").read_text())["model_config_list"]
    assert entry["config"] == {"name": "tiny", "base_path": "/models/tiny", "target_device": "CPU"}
    package_model(make_model(), tmp_path / "k", "kserve")
    assert "protocolVersion: v2" in (tmp_path / "k" / "inferenceservice.yaml").read_text()


@pytest.mark.parametrize("name", ["../up", "a/b", " ", "x" * 101, "näme", "-x"])
def test_a_name_that_no_server_takes_is_refused(tmp_path: Path, make_model: MakeModel, name: str) -> None:
    with pytest.raises(UsageError, match="A model's name"):
        package_model(make_model(), tmp_path / "out", "triton", name=name)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_left_alone(tmp_path: Path, make_model: MakeModel) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="no empty folder"):
        package_model(make_model(), tmp_path / "out", "triton")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["mine"]


def test_nothing_is_written_of_a_model_that_predicts_otherwise(tmp_path: Path, make_model: MakeModel) -> None:
    with pytest.raises(CheckFailedError, match="golden test"):
        package_model(make_model(expected=0.999, tolerance=1e-6), tmp_path / "out", "triton")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", ["MAX_OPSET", "MAX_IR"])
def test_a_file_that_the_server_cannot_read_is_refused(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(package, limit, 7)  # the tiny model has opset 18 and IR version 8
    with pytest.raises(ModelError, match=r"opset 18 and IR version 8.*reads"):
        package_model(make_model(), tmp_path / "out", "triton")


PARSE = """
import sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(open(sys.argv[1]).read(), model_config_pb2.ModelConfig())
print(config.name, config.max_batch_size, [(i.name, list(i.dims)) for i in config.input],
      sorted(config.model_warmup[0].inputs), config.output[0].label_filename)
"""


@pytest.mark.slow
def test_triton_parses_the_configuration_of_both_kinds_of_file(
    tmp_path: Path, make_model: MakeModel, peer_python: PeerPython
) -> None:
    path = make_model()
    raw = tmp_path / "raw.onnx"
    raw.write_bytes(fuse_io(load_model_file(path)).SerializeToString())

    def parse(model: Path) -> str:
        package_model(model, tmp_path / f"of_{model.stem}", "triton")
        config = tmp_path / f"of_{model.stem}" / model.stem / "config.pbtxt"
        return subprocess.run(
            [peer_python(TRITON_CLIENT), "-c", PARSE, config], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert parse(path) == "tiny 1 [('volume', [16, 12, 8, 1])] ['volume']"
    assert parse(raw) == (
        "raw 0 [('voxels', [-1, -1, -1]), ('slope', [1]), ('intercept', [1])] "
        "['intercept', 'slope', 'voxels'] labels.txt"
    )
