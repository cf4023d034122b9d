"""``--precision``, ``--weight-dtype`` and ``--calibration-data`` of ``optimize``, as a user meets them."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.conversion import compiler
from ct3d_edge.conversion.parity.provider_parity import find_working_providers
from ct3d_edge.modelfile.model_file import load_model_file

from .conftest import Run


@pytest.fixture
def scans(make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path) -> tuple[Path, Path]:
    """Folders to calibrate and to prove on, with nothing in common."""
    folders = tmp_path / "calibrate", tmp_path / "prove"
    for start, folder in zip((30, 0), folders, strict=True):
        for number in range(8):
            make_scan(f"{number}.nii.gz", voxels=(hu + start + 60 * number).astype(np.int16), folder=folder)
    return folders


@pytest.fixture
def optimize(run: Run, make_model: MakeModel, scans: tuple[Path, Path], tmp_path: Path) -> Run:
    """``optimize("--precision", "fp16")`` on a tiny model, calibrated and proven on tiny scans."""

    def call(*options: object, calibrate: bool = True) -> object:
        named = ("--calibration-data", scans[0]) if calibrate else ()
        return run(
            "optimize",
            "--model",
            make_model("in.onnx"),
            "--out",
            tmp_path / "x.onnx",
            "--parity-data",
            scans[1],
            *named,
            *options,
        )

    return call  # type: ignore[return-value]


def test_float16_is_proven_as_file_and_as_rehearsal(optimize: Run, run: Run, tmp_path: Path) -> None:
    outcome = optimize("--precision", "fp16")
    assert outcome.code == 0
    assert outcome.out.count("parity check: 8 volumes") == 1 + len(find_working_providers())
    assert "activation: it computes the prediction" in outcome.out
    file = load_model_file(tmp_path / "x.onnx")
    assert file.arithmetic == "fp16"
    assert file.weights == ("float16",)
    assert file.provenance["precision"]["calibration"]["volumes"] == 8
    assert file.provenance["proof"]["limit"] == 5e-3
    assert file.provenance["proof"]["scans"] == 8
    assert "only phantoms" not in outcome.out
    assert run("verify", "--model", tmp_path / "x.onnx").code == 0
    assert json.loads(run("inspect", "--model", tmp_path / "x.onnx", "--json").out)["precision"]["arithmetic"] == "fp16"


def test_integers_name_what_they_were_calibrated_on(optimize: Run, run: Run, tmp_path: Path) -> None:
    assert optimize("--precision", "int8").code == 0
    file = load_model_file(tmp_path / "x.onnx")
    assert file.arithmetic == "int8"
    assert "QuantizeLinear" in file.node_counts
    assert file.provenance["precision"]["calibration"]["material"] == f"8 scans from {tmp_path / 'calibrate'}"
    assert file.provenance["proof"]["tensors"]["compared"] > 0
    shown = run("inspect", "--model", tmp_path / "x.onnx", "--all").out
    assert "fp32_nodes (" in shown
    assert "where eight bits save nothing" in shown


def test_what_is_in_fewer_bits_is_not_rewritten_again(optimize: Run, run: Run, tmp_path: Path) -> None:
    assert optimize("--precision", "int8").code == 0
    again = run("optimize", "--model", tmp_path / "x.onnx", "--out", tmp_path / "y.onnx")
    assert again.code == 3
    assert "computes in int8 already" in again.err


def test_weights_alone(optimize: Run, tmp_path: Path) -> None:
    assert optimize("--weight-dtype", "fp16", calibrate=False).code == 0
    file = load_model_file(tmp_path / "x.onnx")
    assert file.arithmetic == "fp32"
    assert file.provenance["precision"]["weights"] == "fp16"


def test_auto_takes_what_is_fast_and_holds(optimize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "MIN_SPEEDUP", 0.0)
    outcome = optimize("--precision", "auto")
    assert "precision int8 was chosen" in outcome.out
    assert load_model_file(tmp_path / "x.onnx").arithmetic == "int8"


def test_auto_says_why_the_others_fell(optimize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "MIN_SPEEDUP", 1e9)
    slow = optimize("--precision", "auto")
    assert "precision int8 was not taken: it runs at" in slow.out
    assert "precision fp32 was chosen" in slow.out
    unfit = optimize("--precision", "auto", "--target", "no-conv3d", "--atol", "1e-5")
    assert unfit.out.count("was not taken: The parity check failed") == 2
    told = load_model_file(tmp_path / "x.onnx").provenance["precision_choice"]
    assert (told["chosen"], sorted(told["not_taken"])) == ("fp32", ["fp16", "int8"])


def test_a_limit_that_does_not_hold_is_exit_code_4_and_names_a_node(optimize: Run, tmp_path: Path) -> None:
    outcome = optimize("--precision", "int8", "--atol", "1e-9")
    assert outcome.code == 4
    assert "The smallest limit that would have passed is" in outcome.err
    assert "the largest difference is that of node" in outcome.err, "no tensor is beyond its own limit"
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8", "auto"])
def test_weights_are_for_fp32(optimize: Run, precision: str) -> None:
    outcome = optimize("--precision", precision, "--weight-dtype", "fp16")
    assert outcome.code == 2
    assert "leave out --weight-dtype fp16" in outcome.err


def test_calibration_is_for_fewer_bits(optimize: Run) -> None:
    outcome = optimize()
    assert outcome.code == 2
    assert "fp32 needs no calibration" in outcome.err


def test_a_scan_of_the_proof_is_not_calibrated_on(optimize: Run, scans: tuple[Path, Path]) -> None:
    shutil.copy(scans[1] / "3.nii.gz", scans[0] / "another_name.nii.gz")
    outcome = optimize("--precision", "int8")
    assert outcome.code == 2
    assert "another_name.nii.gz is calibration data" in outcome.err


def test_the_same_voxels_in_another_file_are_found_too(
    optimize: Run, scans: tuple[Path, Path], make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    make_scan("unpacked.nii", voxels=(hu + 60).astype(np.int16), folder=scans[0])
    outcome = optimize("--precision", "int8")
    assert outcome.code == 2
    assert "Volume 2 of the parity check is calibration data too" in outcome.err
    assert not (tmp_path / "x.onnx").exists()


def test_empty_and_small_calibration_folders_are_refused(
    optimize: Run, scans: tuple[Path, Path], tmp_path: Path
) -> None:
    for path in sorted(scans[0].iterdir())[1:]:
        path.unlink()
    single = optimize("--precision", "int8")
    assert single.code == 2
    assert f"at least 4 different scans: fewer do not show the range of the values. {scans[0]} has 1." in single.err
    assert "leave out --calibration-data" in single.err
    assert "rewriting" not in single.err, "before anything is converted"
    for number in range(1, 5):
        shutil.copy(scans[0] / "0.nii.gz", scans[0] / f"{number}.nii.gz")
    copies = optimize("--precision", "int8")
    assert copies.code == 2
    assert "has 1 and 4 copies." in copies.err
    (tmp_path / "empty").mkdir()
    empty = optimize("--precision", "int8", "--calibration-data", tmp_path / "empty", calibrate=False)
    assert empty.code == 2
    assert "No scans under" in empty.err


def test_a_network_without_convolution_has_nothing_for_integers(
    run: Run, make_model: MakeModel, scans: tuple[Path, Path], tmp_path: Path
) -> None:
    model = make_model("in.onnx")
    proto = onnx.load(model)
    for node in proto.graph.node:
        if node.op_type == "Conv":
            node.op_type = "Identity"
            del node.input[1:]
        if node.op_type == "MatMul":
            node.op_type = "Mul"
    head = next(t for t in proto.graph.initializer if t.name == "head")
    head.CopyFrom(onnx.numpy_helper.from_array(np.array([[3.0]], np.float32), "head"))
    onnx.save(proto, model)
    outcome = run(
        "optimize",
        model,
        "--out",
        tmp_path / "x.onnx",
        "--precision",
        "int8",
        "--calibration-data",
        scans[0],
        "--parity-data",
        scans[1],
    )
    assert outcome.code == 3
    assert "no convolution in this network" in outcome.err


@pytest.mark.parametrize("options", [("--precision", "fp16"), ("--weight-dtype", "fp16"), ("--embed-preprocessing",)])
def test_an_explanation_is_for_fp32_without_preprocessing_inside(optimize: Run, options: tuple[str, ...]) -> None:
    outcome = optimize(
        "--with-gradcam-output", *options, calibrate=options[-1] == "fp16" and options[0] == "--precision"
    )
    assert outcome.code == 2
    assert "--with-gradcam-output" in outcome.err


def test_a_failed_check_names_the_remedy_of_the_precision(optimize: Run) -> None:
    failed = optimize("--precision", "int8", "--target", "tensorrt", "--atol", "1e-6")
    assert failed.code == 4
    assert "The smallest limit that would have passed is" in failed.err
    assert "(--calibration-data FOLDER, --parity-data FOLDER), or use --precision fp16 or fp32." in failed.err


def test_a_target_that_was_not_run_is_named(optimize: Run) -> None:
    made = optimize("--precision", "int8", "--target", "tensorrt")
    runs = "tensorrt" in find_working_providers()
    assert ("not checked on tensorrt, which does not work on this machine" in made.out) != runs
    assert "not checked on" not in optimize("--precision", "int8").out
