import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.errors import CheckFailedError, DatasetError
from ct3d_edge.evaluation.comparison import Comparison, compare_evaluations
from ct3d_edge.evaluation.evaluation import Evaluation
from ct3d_edge.evaluation.metrics import compute_metrics
from ct3d_edge.evaluation.predict import ScanPrediction
from ct3d_edge.splits.split import ExcludedScan

CONTRACT = Contract()
QUICK = 100


def evaluation(name: str, scores: list[float], truth: list[int], left_out: tuple[int, ...] = ()) -> Evaluation:
    """An evaluation of scans that are numbered in their order; some have no prediction."""
    scans = tuple(
        ScanPrediction(f"{CONTRACT.labels[t]}/{n}.nii", f"{n:064}", t, int(s >= CONTRACT.threshold), s)
        for n, (s, t) in enumerate(zip(scores, truth, strict=True))
    )
    used = tuple(scan for n, scan in enumerate(scans) if n not in left_out)
    values = np.array([scan.probability for scan in used])
    answers = np.array([scan.prediction for scan in used])
    return Evaluation(
        warnings=(),
        model=Path(f"{name}.onnx"),
        model_sha256=name * 64,
        contract=CONTRACT,
        run_by="ONNX Runtime",
        remarks=(),
        folder=Path("data"),
        split_file=None,
        subset="test",
        classes=(("normal", "normal"), ("abnormal", "abnormal")),
        figures=compute_metrics(np.array([scan.truth for scan in used]), values, answers, resamples=QUICK),
        scans=used,
        left_out=tuple(ExcludedScan(scans[n].scan, "non_finite", "NaN", scans[n].sha256) for n in left_out),
        duplicates=(),
        flags={},
    )


TRUTH = [0] * 30 + [1] * 30
RNG = np.random.default_rng(0)
GOOD = np.clip(np.array(TRUTH) * 0.3 + 0.35 + RNG.normal(0, 0.12, 60), 0, 1).tolist()
POOR = np.clip(np.array(TRUTH) * 0.1 + 0.45 + RNG.normal(0, 0.12, 60), 0, 1).tolist()


@pytest.fixture(scope="module")
def better() -> Comparison:
    return compare_evaluations(evaluation("a", GOOD, TRUTH), evaluation("b", POOR, TRUTH), resamples=QUICK)


@pytest.fixture(scope="module")
def worse() -> Comparison:
    return compare_evaluations(evaluation("b", POOR, TRUTH), evaluation("a", GOOD, TRUTH), resamples=QUICK)


def test_a_better_model_is_non_inferior_and_a_worse_one_is_not(better: Comparison, worse: Comparison) -> None:
    assert better.non_inferior
    better.require_non_inferior()
    assert not worse.non_inferior
    with pytest.raises(CheckFailedError, match=r"b\.onnx is not shown to be non-inferior to a\.onnx .* 0\.02: .* -0\."):
        worse.require_non_inferior()


def test_the_margin_decides(worse: Comparison) -> None:
    assert replace(worse, margin=0.9).non_inferior
    assert not replace(worse, margin=-worse.figures.auc_difference.least).non_inferior


def test_scans_are_paired_by_content_whatever_their_order_and_name() -> None:
    first, second = evaluation("a", GOOD, TRUTH), evaluation("b", POOR, TRUTH)
    renamed = tuple(replace(scan, scan=f"other/{scan.scan}") for scan in reversed(second.scans))
    found = compare_evaluations(first, replace(second, scans=renamed), resamples=QUICK)
    assert [pair.reference.probability for pair in found.pairs] == POOR
    assert found.figures == compare_evaluations(first, second, resamples=QUICK).figures


def test_scans_that_differ_come_with_the_largest_difference_first(better: Comparison) -> None:
    expected = [n for n in range(60) if (GOOD[n] >= 0.5) != (POOR[n] >= 0.5)]
    assert expected
    assert {pair.model.scan for pair in better.differing} == {better.pairs[n].model.scan for n in expected}
    gaps = [abs(pair.model.probability - pair.reference.probability) for pair in better.differing]
    assert gaps == sorted(gaps, reverse=True)


def test_a_scan_that_only_the_model_refuses_counts_as_wrong() -> None:
    reference = evaluation("b", GOOD, TRUTH)
    full = compare_evaluations(evaluation("a", GOOD, TRUTH), reference, resamples=QUICK)
    found = compare_evaluations(evaluation("a", GOOD, TRUTH, left_out=(0, 59)), reference, resamples=QUICK)
    assert found.figures.scans == (30, 30)
    wrong = [2.0, *GOOD[1:59], -1.0]
    pairs = np.subtract.outer(wrong[30:], wrong[:30])
    assert found.figures.auc == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert found.figures.auc < full.figures.auc
    assert [(scan.scan, scan.missing, scan.reason) for scan in found.unpaired] == [
        ("abnormal/59.nii", "model", "NaN"),
        ("normal/0.nii", "model", "NaN"),
    ]
    assert found.figures.agreement.total == 58
    assert any("no prediction for 2 of the 60 scans" in warning for warning in found.warnings)
    assert found.evidence().unpredicted == 2


def test_a_scan_that_the_reference_refuses_is_left_out_and_named() -> None:
    found = compare_evaluations(
        evaluation("a", GOOD, TRUTH, left_out=(1,)), evaluation("b", GOOD, TRUTH, left_out=(0, 1)), resamples=QUICK
    )
    assert found.figures.scans == (28, 30)
    assert [(scan.scan, scan.missing) for scan in found.unpaired] == [
        ("normal/0.nii", "reference"),
        ("normal/1.nii", "both"),
    ]


def test_without_common_scans_or_classes_there_is_no_comparison() -> None:
    model = evaluation("a", [0.2, 0.4, 0.6, 0.8], [0, 0, 1, 1])
    other = tuple(replace(scan, sha256=f"{9:064}") for scan in model.scans)
    with pytest.raises(DatasetError, match="no scan that both models predict"):
        compare_evaluations(model, replace(model, scans=other), resamples=QUICK)
    with pytest.raises(DatasetError, match="All 2 scans that can be compared are of one class"):
        compare_evaluations(model, replace(model, scans=model.scans[:2]), resamples=QUICK)


def test_scans_that_a_model_has_seen_prove_nothing(better: Comparison) -> None:
    seen = replace(better, invalid_because=("6 of the 24 scans are training scans of the model.",))
    assert not seen.non_inferior
    with pytest.raises(CheckFailedError, match="6 of the 24 scans are training scans of the model"):
        seen.require_non_inferior()
    with pytest.raises(CheckFailedError, match="no evidence: 6 of the 24"):
        seen.evidence()


def test_models_that_cannot_be_told_apart_are_warned_of() -> None:
    reference = evaluation("b", GOOD, TRUTH)
    same = compare_evaluations(reference, reference, resamples=QUICK)
    assert same.warnings[0] == "The model and its reference are the same file."
    assert "rank these scans alike" in same.warnings[1]
    perfect = [0.1 + t / 2 for t in TRUTH]
    both = compare_evaluations(evaluation("a", perfect, TRUTH), evaluation("b", perfect, TRUTH), resamples=QUICK)
    assert "without error" in both.warnings[0]
    assert not both.non_inferior  # 60 scans are too few


def test_the_json_is_that_of_the_evaluation_and_the_comparison(better: Comparison) -> None:
    data = json.loads(json.dumps(better.to_dict(), allow_nan=False))
    assert {name: value for name, value in data.items() if name != "comparison"} == json.loads(
        json.dumps(better.model.to_dict())
    )
    comparison = data["comparison"]
    assert comparison["reference"]["model"]["sha256"] == "b" * 64
    assert comparison["non_inferior"] is True
    assert comparison["agreement"]["value"] == comparison["agreement"]["count"] / 60
    assert [pair["scan"] for pair in comparison["pairs"]] == [scan["scan"] for scan in data["scans"]]
    assert sum(pair["differs"] for pair in comparison["pairs"]) == len(better.differing)


def test_the_evidence_names_both_models_and_the_scans(better: Comparison) -> None:
    found = better.evidence(student=True)
    assert (found.model_sha256, found.reference_sha256) == ("a" * 64, "b" * 64)
    assert (found.difference, found.low) == (better.figures.auc_difference.value, better.figures.auc_difference.low)
    assert (found.student, found.data, found.scans) == (True, "scans", (30, 30))
    fewer = compare_evaluations(
        evaluation("a", GOOD, TRUTH), evaluation("b", POOR, TRUTH, left_out=(0,)), resamples=QUICK
    )
    assert fewer.evidence().data_sha256 != found.data_sha256


def test_scans_of_data_synth_are_called_phantoms(better: Comparison) -> None:
    pairs = tuple(
        replace(pair, model=replace(pair.model, scan=f"normal/phantom_{n:04}.nii.gz"))
        for n, pair in enumerate(better.pairs)
    )
    assert replace(better, pairs=pairs).evidence().data == "phantoms"
