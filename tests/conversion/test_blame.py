from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import GraphMaker
from networks import SHAPE, SaveNetwork
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion import convert, export, export_model, layers, load_source, variant
from ct3d_edge.conversion.optimize import load_for_rewriting, optimize_model
from ct3d_edge.conversion.passes import pipeline
from ct3d_edge.conversion.passes.graph import Site
from ct3d_edge.conversion.passes.rule import Rewrite, Rule
from ct3d_edge.conversion.plan import Plan
from ct3d_edge.conversion.precision.calibration import Calibration
from ct3d_edge.errors import GateError

Volumes = list[NDArray[np.float32]]
CONTRACT = Contract(shape=SHAPE)


def loud_file(path: Path, peak: float) -> Path:
    """A file in which one node reaches about ``peak``."""
    g = GraphMaker(*SHAPE, 1)
    x = g.op("Transpose", "x", perm=[0, 4, 1, 2, 3])
    x = g.op("Relu", g.conv(x, 4, 1, 3, 3, 3))
    x = g.op("ReduceMean", x, np.array([2, 3, 4]), keepdims=0)
    root = np.sqrt(peak, dtype=np.float32)
    x = g.op("Mul", g.op("Mul", x, np.array([root])), np.array([root]))
    x = g.op("Mul", g.op("Mul", x, np.array([1 / root])), np.array([1 / root]))
    x = g.op("Sigmoid", g.op("MatMul", x, g.normal(4, 1)))
    onnx.save(g.model(x), path)
    return path


def calibration() -> Calibration:
    rng = np.random.default_rng(99)
    return Calibration([rng.random(SHAPE, np.float32) for _ in range(6)], "six of noise")


def wrong() -> Rule:
    """A rule that makes each mean half as large again."""

    def check(node: ir.Node) -> Rewrite | None:
        if "wrong" in (node.name or ""):
            return None

        def rewrite() -> None:
            site = Site(node)
            mean = site.op("ReduceMean", *node.inputs, what="wrong", keepdims=0)
            site.finish(site.op("Mul", mean, site.constant(np.array([1.5], np.float32), "wrong")))

        return rewrite

    return Rule("a wrong rule", frozenset({"ReduceMean"}), check)


def break_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    passes = [replace(p, rules=(*p.rules, wrong())) if p.name == name else p for p in pipeline.EXACT]
    monkeypatch.setattr(pipeline, "EXACT", tuple(passes))


@pytest.mark.parametrize("name", ["transposes", "merge", "crop"])
def test_a_broken_pass_and_its_rewrite_are_named(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    break_pass(monkeypatch, name)
    model = load_for_rewriting(loud_file(tmp_path / "in.onnx", 1.0), CONTRACT)
    with pytest.raises(GateError) as failed:
        optimize_model(model, tmp_path / "out.onnx", volumes, material="noise")
    told = str(failed.value)
    assert f"It comes from the pass {name}, rewrite " in told
    assert "a wrong rule at node ReduceMean reducemean" in told
    assert "The smallest limit that would have passed is" in told
    assert not (tmp_path / "out.onnx").exists()


def test_a_node_that_float16_cannot_hold_stays_float32_and_the_proof_holds(tmp_path: Path, volumes: Volumes) -> None:
    model = load_for_rewriting(loud_file(tmp_path / "in.onnx", 1e6), CONTRACT)
    plan = Plan("none", precision="fp16")
    made = optimize_model(model, tmp_path / "out.onnx", volumes, material="noise", plan=plan, calibration=calibration())
    kept = made.model.provenance["precision"]["fp32_nodes"]
    assert "mul5" in kept
    assert [proof.rehearsed for proof in made.proofs] == [False, True]
    assert made.proofs[1].tensors is not None
    assert made.proofs[1].tensors.holds


def test_without_that_care_the_rehearsal_fails_and_the_node_is_named(
    tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant, "risky", lambda proto, _: {proto.graph.output[0].name: "it gives the answer"})
    model = load_for_rewriting(loud_file(tmp_path / "in.onnx", 1e6), CONTRACT)
    with pytest.raises(GateError) as failed:
        optimize_model(
            model,
            tmp_path / "out.onnx",
            volumes,
            material="noise",
            plan=Plan("none", precision="fp16"),
            calibration=calibration(),
        )
    assert "on cpu with rounding" in str(failed.value)
    assert "that of node Mul mul5, off by inf" in str(failed.value)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.slow
def test_a_conversion_that_goes_wrong_names_the_layer(
    save_network: SaveNetwork, tmp_path: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(network: keras.Model, contract: Contract) -> onnx.ModelProto:
        """Every convolution is given another weight."""
        proto = convert.to_onnx(network, contract)
        kernels = {node.input[1] for node in proto.graph.node if node.op_type == "Conv"}
        for tensor in proto.graph.initializer:
            if tensor.name in kernels:
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 2, tensor.name))
        return proto

    monkeypatch.setattr(layers, "to_onnx", changed)
    monkeypatch.setattr(export, "to_onnx", changed)
    source = load_source(save_network())
    with pytest.raises(GateError, match=r"comes from the conversion, at layer conv3d\w* \(Conv3D\)"):
        export_model(source, tmp_path / "x.onnx", volumes, material="noise")
