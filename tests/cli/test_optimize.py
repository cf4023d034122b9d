import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import MakeModel, MakeScan, tiny_proto
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity.provider_parity import find_working_providers
from ct3d_edge.extras import pip_install_command
from ct3d_edge.modelfile.model_file import load_model_file

from .conftest import Run


@pytest.fixture
def optimize(run: Run, make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path) -> Run:
    """``optimize(model, "--out", path)``, proven on eight tiny scans that differ."""
    folder = tmp_path / "proof"
    for number in range(8):
        make_scan(f"{number}.nii.gz", voxels=(hu + 60 * number).astype(np.int16), folder=folder)
    return lambda *arguments: run("optimize", "--model", *arguments, "--parity-data", folder)


@pytest.mark.slow
def test_phantoms_serve_where_no_scans_are_named(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    outcome = run("optimize", "--model", make_model(), "--out", tmp_path / "x.onnx")
    assert outcome.code == 0
    assert "parity check: 8 volumes (8 phantoms from seed" in outcome.out


def test_optimizes_proves_and_says_so(optimize: Run, run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    model, out = make_model(), tmp_path / "fast.onnx"
    outcome = optimize(model, "--out", out)
    assert outcome.code == 0
    assert "pass planes" in outcome.out
    assert f"parity check: 8 volumes (8 scans from {tmp_path / 'proof'})" in outcome.out
    assert run("verify", "--model", out).code == 0
    before, after = load_model_file(model), load_model_file(out)
    assert after.contract == before.contract
    assert before.golden.uses_first_recipe
    assert not after.golden.uses_first_recipe
    assert after.golden.tensors
    assert after.provenance["optimize"] == {"level": "fast", "target": "cpu"}
    assert after.provenance["optimized_from"]["sha256"] == before.sha256
    steps = after.provenance["passes"]
    assert steps[0]["before"] == before.nodes
    assert steps[-1]["after"] == after.provenance["nodes"] == after.nodes


def test_a_graph_that_is_left_alone_keeps_its_level(optimize: Run, make_model: MakeModel, tmp_path: Path) -> None:
    once, again = tmp_path / "once.onnx", tmp_path / "again.onnx"
    assert optimize(make_model(), "--out", once).code == 0
    assert optimize(once, "--optimize", "none", "--out", again).code == 0
    assert load_model_file(again).optimized == load_model_file(once).optimized == ("fast", "cpu")
    assert load_model_file(again).provenance["passes"] == load_model_file(once).provenance["passes"]


def test_inspect_shows_the_passes(optimize: Run, run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "fast.onnx"
    optimize(make_model(), "--out", out)
    text = run("inspect", "--model", out, "--all").out
    assert "1. transposes" in text
    facts = json.loads(run("inspect", "--model", out, "--json").out)
    assert facts["passes"]["1. transposes"]["before"] == 5
    assert "passes" not in facts["provenance"]


def test_passes_of_a_file_that_was_rewritten_before_are_kept(
    optimize: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    first, second = tmp_path / "exact.onnx", tmp_path / "fast.onnx"
    assert optimize(make_model(), "--out", first, "--optimize", "exact").code == 0
    assert optimize(first, "--out", second).code == 0
    count = [len(load_model_file(path).provenance["passes"]) for path in (first, second)]
    assert count[1] > 2 * count[0]


@pytest.mark.parametrize("level", ["none", "exact", "small"])
def test_every_level_is_proven(optimize: Run, make_model: MakeModel, tmp_path: Path, level: str) -> None:
    out = tmp_path / "x.onnx"
    assert optimize(make_model(), "--out", out, "-O", level).code == 0
    assert load_model_file(out).provenance["proof"]["label_flips"] == 0


def test_no_conv3d_leaves_none(optimize: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    assert optimize(make_model(), "--out", out, "--target", "no-conv3d").code == 0
    kernels = [a.ints for node in onnx.load(out).graph.node for a in node.attribute if a.name == "kernel_shape"]
    assert [len(kernel) for kernel in kernels] == [2]


def test_a_file_for_openvino_runs_everywhere(optimize: Run, run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    made = optimize(make_model(), "--out", out, "--target", "openvino")
    assert made.code == 0, made.err
    assert "pass taps as channels" in made.out
    missing = "not checked on openvino, which does not work on this machine: run ct3d-edge verify --model x.onnx"
    assert (missing in made.out) != ("openvino" in find_working_providers())
    assert load_model_file(out).optimized == ("fast", "openvino")
    assert run("verify", "--model", out, "--provider", "cpu").code == 0


def test_a_failed_proof_is_exit_code_4_and_leaves_no_file(optimize: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    outcome = optimize(make_model(name="in.onnx"), "--out", out, "--atol", "0")
    assert outcome.code == 4
    assert "No file was written" in outcome.err
    assert not out.exists()


def test_a_contract_may_be_attached_to_a_file_from_elsewhere(
    optimize: Run, run: Run, contract: Contract, tmp_path: Path
) -> None:
    proto = tiny_proto(contract)
    del proto.metadata_props[:]
    foreign, out = tmp_path / "foreign.onnx", tmp_path / "ours.onnx"
    foreign.write_bytes(proto.SerializeToString())
    refused = optimize(foreign, "--out", out)
    assert refused.code == 3
    assert "--contract CONTRACT.json" in refused.err
    (tmp_path / "contract.json").write_text(contract.to_json())
    assert optimize(foreign, "--out", out, "--contract", tmp_path / "contract.json").code == 0
    assert run("verify", "--model", out).code == 0


def test_a_contract_of_another_network_is_refused(optimize: Run, make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text(Contract(shape=(9, 9, 9)).to_json())
    outcome = optimize(make_model(), "--out", tmp_path / "x.onnx", "--contract", tmp_path / "contract.json")
    assert outcome.code == 3
    assert not (tmp_path / "x.onnx").exists()


def test_a_graph_that_cannot_be_rewritten_is_exit_code_3_with_its_node(
    optimize: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model()
    proto = onnx.load(model)
    proto.graph.node[1].domain = "com.example"
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(proto, model)
    outcome = optimize(model, "--out", tmp_path / "x.onnx")
    assert outcome.code == 3
    assert "Node conv is Conv of the domain com.example" in outcome.err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("size", ["0MB", "lots", "60 Mb extra"])
def test_a_budget_that_is_no_size_is_refused(optimize: Run, make_model: MakeModel, tmp_path: Path, size: str) -> None:
    outcome = optimize(make_model(), "--out", tmp_path / "x.onnx", "-O", "small", "--max-memory", size)
    assert outcome.code == 2
    assert "e.g. 500MB or 2GB" in outcome.err


def test_a_budget_is_kept_in_the_provenance(optimize: Run, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    assert optimize(make_model(), "--out", out, "-O", "small", "--max-memory", "1.5 mb").code == 0
    assert load_model_file(out).provenance["optimize"]["max_memory"] == 1_500_000


def test_the_model_itself_is_never_overwritten(optimize: Run, make_model: MakeModel) -> None:
    model = make_model()
    before = model.read_bytes()
    assert optimize(model, "--out", model).code == 2
    assert model.read_bytes() == before


@pytest.mark.slow
def test_keras_is_not_needed(make_model: MakeModel, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ct3d_edge.cli.app import app\n"
        f"app(['optimize', {str(make_model())!r}, '--out', {str(tmp_path / 'x.onnx')!r}], standalone_mode=False)\n"
        "assert not {'keras', 'tensorflow', 'tf2onnx', 'onnxscript'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert (tmp_path / "x.onnx").is_file()


def test_without_onnx_ir_the_extra_is_named(
    run: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.cli.optimize.OPTIMIZE_MODULES", ("onnx_ir_of_another_planet",))
    outcome = run("optimize", "--model", make_model(), "--out", tmp_path / "x.onnx")
    assert outcome.code == 3
    assert pip_install_command("optimize") in outcome.err
