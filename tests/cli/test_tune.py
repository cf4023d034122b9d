import json
import os
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.cli.tune import speedup
from ct3d_edge.conversion.precision.tolerances import Arithmetic, Precision
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.provider_selection import find_expected_provider
from ct3d_edge.tuning.cache import parse_tuning_result, tuned_model_path, tuning_result_path
from ct3d_edge.tuning.candidate import Candidate, CandidateResult
from ct3d_edge.tuning.result import TuningResult, tuning_key

from .conftest import Run


@pytest.fixture
def tune(run: Run, make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``tune(model)`` with three rounds and few candidates, proven on eight tiny scans that differ."""
    folder = tmp_path / "proof"
    for number in range(8):
        make_scan(f"{number}.nii.gz", voxels=(hu + 60 * number).astype(np.int16), folder=folder)
    monkeypatch.setattr("ct3d_edge.tuning.search_space.PROVIDER_SETTINGS", {})
    monkeypatch.setattr("ct3d_edge.tuning.search_space.count_usable_cores", lambda: 1)
    return lambda *arguments: run("tune", "--model", *arguments, "--parity-data", folder, "--rounds", 3)


def write_choice(model: Path, *, processor: str | None = None, threads: int = 1, precision: Precision = "fp32") -> None:
    """A choice of the given file with threads that do not wait in a loop."""
    key = tuning_key(load_model_file(model).sha256, "cpu")
    if processor:
        key = type(key)(**{**vars(key), "processor": processor})
    chosen = Candidate("none", threads, (("allow_spinning", "0"),), precision)
    results = (
        CandidateResult(chosen, None, 0.02, 1000, (1.0,)),
        CandidateResult(Candidate("none", threads), None, 0.0, 1000, (2.0,)),
    )
    created = "2030-01-01T00:00:00+00:00"
    limits: dict[Arithmetic, float] = {"fp32": 1e-5, "int8": 2e-2}
    choice = TuningResult(key, created, key.model_sha256, 0, 1, None, "eight", limits, results)
    tuning_result_path(model).write_text(choice.to_json())


def test_a_file_for_openvino_names_the_missing_plugin(
    run: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "for-openvino.onnx"
    assert run("optimize", "--model", make_model("model.onnx"), "--out", made, "--target", "openvino").code == 0
    monkeypatch.setattr("ct3d_edge.tuning.tune.is_available", lambda name: name == "cpu")
    outcome = run("tune", "--model", made, "--max-memory", "1KB")
    assert outcome.code == 4
    assert "for-openvino.onnx was made for openvino, and is tuned for cpu; to install openvino: pip" in outcome.err


@pytest.mark.slow
def test_tunes_says_so_and_infer_and_bench_follow(
    tune: Run, run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    outcome = tune(model)
    assert outcome.code == 0, outcome.err
    assert "as given, fp32, 1 thread" in outcome.out
    assert f"wrote {tuning_result_path(model)}" in outcome.err
    choice = parse_tuning_result(tuning_result_path(model).read_bytes())
    assert f"chosen: {choice.candidate.name} on cpu" in outcome.out
    assert choice.fastest_provider == "cpu"
    assert {result.candidate.level for result in choice.results} >= {"none", "fast"}
    assert all(len(result.samples) == 3 and result.memory for result in choice.results)
    assert choice.results[choice.baseline].candidate == Candidate("none", 1)
    assert tuned_model_path(model).exists() != choice.uses_original_file
    assert not list(tmp_path.glob(".ct3d-*"))
    assert not list(tmp_path.glob("*.lock"))
    outcome = run("infer", make_scan(), "-m", model, "-p", "cpu", "--run-report", run_report)
    assert outcome.code == 0
    assert f"tuned: {choice.candidate.name} on cpu" in outcome.err
    told = json.loads(run_report.read_text())
    assert (told["tuned"], told["model_sha256"]) == (True, choice.file_sha256)
    outcome = run("bench", "-m", model, "-p", "cpu", "--input", make_scan(), "-n", 2, "--time-limit", "5s")
    assert f"tuned: {choice.candidate.name} on cpu" in outcome.err


def test_where_nothing_stays_within_the_budget_nothing_is_written(
    tune: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model("model.onnx")
    before = sorted(tmp_path.iterdir())
    outcome = tune(model, "--atol", 0, "--max-memory", "100KB")
    assert outcome.code == 4
    assert "No candidate stays within 100 kB: the smallest adds " in outcome.err
    assert "over the budget" in outcome.out
    assert "checking parity ..." not in outcome.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_budget_that_does_not_hold_the_weights_is_refused_at_once(
    tune: Run, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model("model.onnx")
    before = sorted(tmp_path.iterdir())
    outcome = tune(model, "--max-memory", "1KB")
    assert outcome.code == 4
    assert "No form of this model fits into 1 kB: its weights in fp32 and one network input alone" in outcome.err
    assert "rewriting" not in outcome.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_fewer_bits_are_tried_where_they_are_permitted_and_the_choice_says_so(
    tune: Run, run: Run, make_model: MakeModel, make_scan: MakeScan
) -> None:
    model = make_model("model.onnx")
    outcome = tune(model, "--allow-precision", "fp16", "--allow-precision", "int8")
    assert outcome.code == 0, outcome.err
    choice = parse_tuning_result(tuning_result_path(model).read_bytes())
    assert {result.candidate.precision for result in choice.results} >= {"fp32", "fp16"}
    assert choice.limits["fp16"] > choice.limits["fp32"]
    assert "fast, int8" in outcome.out


def test_whoever_follows_a_choice_in_fewer_bits_says_what_that_costs(
    run: Run, make_model: MakeModel, make_scan: MakeScan
) -> None:
    model = make_model("model.onnx")
    write_choice(model, precision="int8")
    told = "tuned: it computes in int8, and its probabilities differ from the given file's: by up to 2.0e-02 on eight"
    assert told in run("infer", make_scan(), "-m", model, "-p", "cpu").err
    assert told in run("bench", "-m", model, "-p", "cpu", "--input", make_scan(), "-n", 2, "--time-limit", "5s").err


@pytest.mark.parametrize("text", ["fp8", "fp16,int8"])
def test_a_precision_that_there_is_not_is_refused(tune: Run, make_model: MakeModel, text: str) -> None:
    outcome = tune(make_model("model.onnx"), "--allow-precision", text)
    assert outcome.code == 2
    assert f"--allow-precision takes one of fp32, fp16, bf16, int8, any at a time, found {text!r}" in outcome.err


def test_calibration_without_fewer_bits_is_refused(tune: Run, make_model: MakeModel, tmp_path: Path) -> None:
    outcome = tune(make_model("model.onnx"), "--calibration-data", tmp_path)
    assert outcome.code == 2
    assert "--calibration-data is for --allow-precision fp16, int8 and any" in outcome.err


def test_an_interrupted_tune_leaves_nothing(
    tune: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    model = make_model("model.onnx")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("ct3d_edge.tuning.tune.check_candidate_parity", interrupt)
    assert tune(model).code != 0
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_tuning_chose_is_not_tuned(tune: Run, make_model: MakeModel) -> None:
    outcome = tune(make_model("model.tuned.onnx"))
    assert outcome.code == 2
    assert "Tune the model that it was made from" in outcome.err


@pytest.mark.skipif(find_expected_provider("auto") != "cpu", reason="there is a GPU here")
def test_a_provider_that_does_not_work_here_is_exit_code_3(tune: Run, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("model.onnx")
    outcome = tune(model, "--provider", "cuda")
    assert outcome.code == 3
    assert "Provider cuda cannot do the work here" in outcome.err
    assert "--allow-fallback" not in outcome.err  # which this command does not have
    assert not tuning_result_path(model).exists()


def test_a_model_that_is_not_there_is_exit_code_3(tune: Run, tmp_path: Path) -> None:
    assert tune(tmp_path / "absent.onnx").code == 3


def test_infer_follows_a_choice_and_says_so(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, threads=3)
    outcome = run("infer", make_scan(), "-m", model, "-p", "cpu", "--run-report", run_report)
    told = json.loads(run_report.read_text())
    assert "tuned: as given, fp32, 3 threads, allow_spinning=0 on cpu, from model.tuned.json" in outcome.err
    assert "one scan after the other, 3 threads" in outcome.err
    assert (told["tuned"], told["threads"], told["options"]["allow_spinning"]) == (True, 3, "0")
    assert len(told["choice"]) == 64


def test_an_option_of_the_user_wins(run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, threads=3)
    own = ("--provider-option", "allow_spinning=1", "--provider-option", "intra_op_num_threads=2")
    assert run("infer", make_scan(), "-m", model, "-p", "cpu", *own, "--run-report", run_report).code == 0
    told = json.loads(run_report.read_text())
    assert (told["tuned"], told["threads"], told["options"]["allow_spinning"]) == (True, 2, "1")


def test_auto_follows_a_choice_of_the_provider_it_comes_to(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, threads=3)
    assert run("infer", make_scan(), "-m", model, "--device-id", 0, "--run-report", run_report).code == 0
    told = json.loads(run_report.read_text())
    assert told["requested"] == "auto"
    assert (told["tuned"], told["threads"] == 3) == ((True, True) if told["actual"] == "cpu" else (False, False))


def test_no_tuned_runs_the_model_as_given(run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, threads=3)
    outcome = run("infer", make_scan(), "-m", model, "-p", "cpu", "--ignore-tuning", "--run-report", run_report)
    told = json.loads(run_report.read_text())
    assert "tuned: " not in outcome.err
    assert (told["tuned"], told["choice"], told["options"]["allow_spinning"]) == (False, None, "1")


def test_a_choice_made_on_another_processor_is_left_aside(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, processor="Abacus 3")
    outcome = run("infer", make_scan(), "-m", model, "-p", "cpu", "--run-report", run_report)
    assert outcome.code == 0
    assert "model.tuned.json is not used: made on another processor (Abacus 3; here it is " in outcome.err
    assert json.loads(run_report.read_text())["tuned"] is False


def test_a_folder_divides_the_cores_itself(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, threads=7)
    scans = [make_scan(name) for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz")]
    assert run("infer", *scans, "-m", model, "-p", "cpu", "--run-report", run_report).code == 0
    told = json.loads(run_report.read_text())
    assert (told["tuned"], told["options"]["allow_spinning"]) == (True, "0")
    assert told["threads"] <= (os.cpu_count() or 1)


def test_bench_follows_a_choice_but_for_swept_threads(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    model, run_report = make_model("model.onnx"), tmp_path / "receipt.json"
    write_choice(model, threads=3)
    options = (
        "-m",
        model,
        "-p",
        "cpu",
        "--input",
        make_scan(),
        "-n",
        2,
        "--time-limit",
        "5s",
        "--run-report",
        run_report,
    )
    outcome = run("bench", *options)
    assert outcome.code == 0
    assert "tuned: as given, fp32, 3 threads, allow_spinning=0 on cpu" in outcome.err
    assert json.loads(run_report.read_text())["threads"] == 3
    assert run("bench", *options, "--sweep", "threads=2").code == 0
    assert json.loads(run_report.read_text())["threads"] == 2


@pytest.mark.parametrize(
    ("plain", "best", "told"),
    [
        ((2.0, 4.0), (1.0, 2.0), "2.00 times as fast as the given file with default options; too few rounds"),
        ((2.0,) * 9, (1.0,) * 9, "(median of the rounds' ratios; 99 % interval 2.00 to 2.00)"),
        ((2.0,) * 5 + (1.0,) * 4, (1.0,) * 5 + (2.0,) * 4, "99 % interval 0.50 to 2.00); it may be chance"),
    ],
)
def test_the_gain_is_told_with_how_surely_it_is_known(
    plain: tuple[float, ...], best: tuple[float, ...], told: str
) -> None:
    candidate = Candidate("none", 1)
    assert told in speedup(CandidateResult(candidate, samples=best), CandidateResult(candidate, samples=plain))


def test_bf16_without_openvino_is_one_sentence(tune: Run, make_model: MakeModel) -> None:
    outcome = tune(make_model("model.onnx"), "--allow-precision", "bf16", "-p", "cpu")
    assert outcome.code == 2
    assert "bf16 is computed by the provider openvino, not by cpu; to install it: pip install" in outcome.err
