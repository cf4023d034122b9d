import hashlib
import json
from dataclasses import replace

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test


def test_the_shipped_model_is_the_one_in_its_manifest() -> None:
    path = default_model_path()
    manifest = json.loads((path.parent / "manifest.json").read_text())
    (entry,) = [entry for entry in manifest["models"] if entry["file"] == path.name]
    file = load_model_file(path)
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Contract.from_json(json.dumps(entry["contract"])) == replace(file.contract, feature_statistics=None)
    assert entry["contract_sha256"] == file.contract.sha256
    assert entry["proof"] == file.provenance["proof"]


def test_the_shipped_model_proves_itself_here() -> None:
    with Runner(load_model_file(default_model_path()), SessionRequest("cpu")) as runner:
        assert run_golden_test(runner).passed
