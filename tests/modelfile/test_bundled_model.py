import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.model_file import default_model_path, is_demo_model, load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test

FOLDER = default_model_path().parent
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
each_model = pytest.mark.parametrize("entry", MANIFEST["models"], ids=lambda entry: entry["file"])


@each_model
def test_a_model_is_the_one_in_the_manifest(entry: dict[str, Any]) -> None:
    path = FOLDER / entry["file"]
    file = load_model_file(path)
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Contract.from_json(json.dumps(entry["contract"])) == replace(file.contract, feature_statistics=None)
    assert entry["contract_sha256"] == file.contract.sha256
    assert entry["proof"] == file.provenance["proof"]
    assert is_demo_model(file)


@each_model
def test_a_model_passes_its_golden_test_here(entry: dict[str, Any]) -> None:
    with Runner(load_model_file(FOLDER / entry["file"]), SessionRequest("cpu")) as runner:
        assert run_golden_test(runner).passed


@each_model
def test_a_model_has_a_card_that_says_what_it_is_for(entry: dict[str, Any]) -> None:
    card = (FOLDER / entry["file"]).with_suffix(".md").read_text()
    assert card.startswith(f"# {entry['file']}\n\n**Not for clinical use.** This model has never seen a patient.")
    assert f"AUC {entry['test']['auc']['value']:.3f}" in card
    assert f"| [{entry['file']}]({Path(entry['file']).stem}.md) |" in (FOLDER / "README.md").read_text()


def test_every_model_file_is_in_the_manifest() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.onnx")) == sorted(entry["file"] for entry in MANIFEST["models"])
