"""The recipes of `export/`: all parse, and a small one writes model, card, manifest and index."""

import importlib.util
import json
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from networks import KERAS

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "export").glob("*.toml"))

SMALL = """
name = "small"
purpose = "A test."
network = "stem"
network_description = "`train --network stem`"

[[stage]]
phantoms = 24
seed = 1
shape = [48, 48, 24]
size = [41, 41, 41]
preset = "default"
epochs = 1
batch_size = 4
learning_rate = 1e-3

[test]
phantoms = 16
seed = 2
shape = [48, 48, 24]
least_auc = 0.0
against = "phantom-cnn.onnx"

[export]
labels = ["normal", "abnormal"]
explain = false
"""

pytestmark = pytest.mark.skipif(not KERAS, reason="the extra 'train' is not installed")


@pytest.fixture
def make_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_model", ROOT / "export" / "make_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_model"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_is_the_one_of_its_model(make_model: ModuleType, file: Path) -> None:
    recipe = tomllib.loads(file.read_text())
    assert recipe["name"] == file.stem
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text())
    (entry,) = [entry for entry in manifest["models"] if entry["file"] == f"{file.stem}.onnx"]
    assert entry["recipe"] == recipe
    assert all(make_model.TrainingStage.from_table(table).data.count for table in recipe["stage"])
    assert make_model.find_network(recipe["network"]).build(*recipe["stage"][-1]["size"]).count_params()


def test_the_index_is_made_from_the_manifest(
    make_model: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    monkeypatch.setattr(make_model, "MODELS_DIR", models)
    (models / "README.md").unlink()
    make_model.write_index(json.loads((models / "manifest.json").read_text()))
    assert (models / "README.md").read_text() == (ROOT / "models" / "README.md").read_text()


@pytest.mark.slow
def test_a_recipe_adds_a_model_and_leaves_the_others(
    make_model: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    monkeypatch.setattr(make_model, "MODELS_DIR", models)
    (tmp_path / "small.toml").write_text(SMALL)
    monkeypatch.setattr(sys, "argv", ["make_model", str(tmp_path / "small.toml"), "--work", str(tmp_path / "work")])
    before = json.loads((models / "manifest.json").read_text())
    make_model.main()
    manifest = json.loads((models / "manifest.json").read_text())
    assert manifest["default"] == before["default"]
    assert [entry for entry in manifest["models"] if entry["file"] != "small.onnx"] == before["models"]
    card = (models / "small.md").read_text()
    assert "| Network | `train --network stem`, 266,945 parameters |" in card
    compared = next(entry["sha256"] for entry in before["models"] if entry["file"] == "phantom-cnn.onnx")
    assert f"| Comparison | compared with {compared[:12]}..., AUC difference" in card
    assert "[small.onnx](small.md) | stem |" in (models / "README.md").read_text()
    make_model.main()  # the finished stage is not trained again
    (first,), (second,) = (
        [entry["keras_sha256"] for entry in each["models"] if entry["file"] == "small.onnx"]
        for each in (manifest, json.loads((models / "manifest.json").read_text()))
    )
    assert first == second
