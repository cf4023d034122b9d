import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import MakeModel
from mutations import as_model, sure_network
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.model_file import PROVENANCE_KEY, default_model_path

from .conftest import Run


def test_inspect_shows_every_part(run: Run, make_model: MakeModel) -> None:
    outcome = run("inspect", "--model", make_model(), "--all")
    assert outcome.code == 0
    for word in ("file", "graph", "contract", "golden test", "provenance", "Conv", "hu_window", "-1000, 400"):
        assert word in outcome.out


def test_inspect_json_is_for_programs(run: Run, make_model: MakeModel, contract: Contract) -> None:
    facts = json.loads(run("inspect", "--model", make_model(), "--json").out)
    assert facts["contract"]["shape"] == [16, 12, 8]
    assert facts["contract"]["sha256"] == contract.sha256
    assert facts["graph"]["operators"]["Conv"] == 1
    assert facts["golden test"]["inputs"] == [[1, 1, 0], [2, 2, 0]]


def test_inspect_shows_what_was_proven_besides_in_lines(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    parity_reports = [
        {"provider": name, "volumes": 8, "probability_range": [0.25, 0.75]} for name in ("cuda", "tensorrt")
    ]
    proto = onnx.load(make_model())
    for entry in proto.metadata_props:
        if entry.key == PROVENANCE_KEY:
            entry.value = json.dumps({"further_proofs": parity_reports})
    path = tmp_path / "proven.onnx"
    onnx.save(proto, path)
    lines = [line.strip() for line in run("inspect", "--model", path, "--all").out.splitlines()]
    begin = lines.index("further_proofs")
    assert lines[begin + 1 : begin + 5] == [
        "1.",
        "provider           cuda",
        "volumes            8",
        "probability_range  0.25, 0.75",
    ]
    assert lines[begin + 5 : begin + 7] == ["2.", "provider           tensorrt"]
    assert json.loads(run("inspect", "--model", path, "--json").out)["provenance"]["further_proofs"] == parity_reports


def test_inspect_refuses_what_is_no_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("x")
    assert run("inspect", "--model", tmp_path / "x.onnx").code == 3


def test_verify_passes_and_says_by_how_much(run: Run, make_model: MakeModel) -> None:
    outcome = run("verify", "--model", make_model(), "--provider", "cpu")
    assert outcome.code == 0
    assert outcome.out.startswith("verified: 2 golden inputs on cpu")


def test_verify_fails_with_exit_code_4(run: Run, make_model: MakeModel) -> None:
    outcome = run("verify", "--model", make_model(expected=0.123, tolerance=1e-6))
    assert outcome.code == 4
    assert "golden test failed" in outcome.err
    assert "Do not use this model" in outcome.err


@pytest.mark.parametrize("width", [80, 120])
def test_inspect_takes_one_screen(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("inspect", "--model", default_model_path()).out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= width
    for name in ("input", "output", "scan", "classes", "training range", "golden test", "parity check", "made from"):
        assert any(line.startswith(f"{name} ") for line in lines), name


def test_inspect_takes_a_provenance_of_any_kind(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    proto = onnx.load(make_model())
    for entry in proto.metadata_props:
        if entry.key == PROVENANCE_KEY:
            entry.value = json.dumps({"proof": {"volumes": None}, "tools": [], "passes": 3, "source": {"file": 1}})
    onnx.save(proto, tmp_path / "odd.onnx")
    outcome = run("inspect", "--model", tmp_path / "odd.onnx")
    assert outcome.code == 0
    assert "made from           1\n" in outcome.out


def test_verify_tells_of_a_test_from_before_and_how_to_renew_it(
    run: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    old, new = make_model(), tmp_path / "new.onnx"
    warned = run("verify", "--model", old, "--provider", "cpu")
    assert warned.code == 0
    assert "the golden test is weak" in warned.err
    assert f"verify --model {old} --renew" in warned.err
    assert json.loads(run("inspect", "--model", old, "--json").out)["golden test"]["power"].startswith("weak")
    renewed = run("verify", "--model", old, "--provider", "cpu", "--renew", new)
    assert renewed.code == 0
    assert f"wrote {new}: the same graph, 3 golden inputs, 3 tensors" in renewed.out
    outcome = run("verify", "--model", new, "--provider", "cpu")
    assert outcome.code == 0
    assert "weak" not in outcome.err
    assert "3 tensors inside: largest difference" in outcome.out
    assert json.loads(run("inspect", "--model", new, "--json").out)["golden test"]["power"] == "enough"


def test_a_test_that_does_not_hold_is_not_renewed(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    outcome = run("verify", "--model", make_model(expected=0.123, tolerance=1e-6), "--renew", tmp_path / "new.onnx")
    assert outcome.code == 4
    assert not (tmp_path / "new.onnx").exists()


def test_renew_needs_a_place_to_write(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    outcome = run("verify", "--model", make_model(), "--renew", tmp_path / "no" / "folder" / "new.onnx")
    assert outcome.code == 2
    assert "new.onnx" in outcome.err


def test_an_input_that_the_network_is_sure_of_is_a_weak_test(run: Run, contract: Contract, tmp_path: Path) -> None:
    graph = sure_network(contract)
    (bias,) = [tensor for tensor in graph.graph.initializer if tensor.name == graph.graph.node[-2].input[1]]
    bias.CopyFrom(numpy_helper.from_array(np.full(1, 300, np.float32), bias.name))
    path = tmp_path / "sure.onnx"
    path.write_bytes(as_model(graph, contract).data)
    outcome = run("verify", "--model", path, "--provider", "cpu")
    assert outcome.code == 0
    assert "the golden test is weak: no input was found of which the network is unsure" in outcome.err
    assert "6 tensors inside" in outcome.out, "which still say something"
