from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from builders import ANY_SCAN_KERAS, MakeModel
from graded import GradedFolder

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.evaluation.evaluation import evaluate
from ct3d_edge.evaluation.fit_temperature import calibrate_run
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import read_split, write_split
from ct3d_edge.temperature_scaling import TEMPERATURE_SEARCH_RANGE, ThresholdRule, fit_operating_point


def contract_of(run: Path) -> Contract:
    return Contract.from_json((run / "contract.json").read_text())


@pytest.mark.parametrize("rule", [ThresholdRule(), ThresholdRule(1.0), ThresholdRule(0.5)], ids=str)
def test_fits_to_the_validation_scans_alone(run: Path, scans: Path, rule: ThresholdRule) -> None:
    judged = evaluate(run, scans, config=ANY_SCAN_KERAS, split=run / "split.json", subset="validation", resamples=100)
    expected = fit_operating_point(
        contract_of(run), [v.probability for v in judged.scans], [v.truth for v in judged.scans], rule
    )
    made = calibrate_run(run, scans, rule=rule)
    fitted = (made.after.temperature, made.after.threshold)
    assert contract_of(run) == replace(expected, temperature=fitted[0], threshold=fitted[1])
    # Both runs of the network differ by rounding: this one has the pooled features as a second output.
    assert fitted == pytest.approx((expected.temperature, expected.threshold), rel=1e-5)
    assert made.scans == (("normal", 6), ("abnormal", 6))
    assert expected.temperature != 1


def test_the_temperature_lowers_the_log_loss_and_the_rule_holds(run: Path, scans: Path) -> None:
    made = calibrate_run(run, scans, rule=ThresholdRule(1.0))
    assert made.after.log_loss < made.before.log_loss
    assert made.after.sensitivity.value == 1
    assert (made.before.temperature, made.before.threshold) == (1, 0.5)


def test_calibrating_again_changes_nothing(run: Path, scans: Path) -> None:
    first = calibrate_run(run, scans)
    again = calibrate_run(run, scans)
    assert again.after == first.after
    assert again.before == first.after


def test_what_is_told_is_what_evaluate_finds(run: Path, scans: Path) -> None:
    made = calibrate_run(run, scans)
    judged = evaluate(
        run, scans, config=ANY_SCAN_KERAS, split=run / "split.json", subset="validation", resamples=100
    ).figures
    assert judged.log_loss == pytest.approx(made.after.log_loss)
    assert judged.ece.value == pytest.approx(made.after.ece)
    assert (judged.sensitivity, judged.specificity) == (made.after.sensitivity, made.after.specificity)


def test_test_scans_are_not_opened(run: Path, scans: Path) -> None:
    for entry in read_split(run / "split.json").test:
        (scans / entry.path).write_bytes(b"")
    calibrate_run(run, scans)


def test_an_onnx_file_is_calibrated_by_its_run(make_model: MakeModel, scans: Path) -> None:
    with pytest.raises(UsageError, match="Calibrate the training run, then export it again"):
        calibrate_run(make_model(), scans)


def test_what_is_no_run_is_told(run: Path, scans: Path) -> None:
    (run / "contract.json").unlink()
    for path in (run, scans):
        with pytest.raises(UsageError, match=r"is no training run: a folder with model\.keras and contract\.json"):
            calibrate_run(path, scans)


def test_a_run_without_its_split_needs_one(run: Path, scans: Path, tmp_path: Path) -> None:
    moved = (run / "split.json").rename(tmp_path / "split.json")
    with pytest.raises(UsageError, match="Name the split"):
        calibrate_run(run, scans)
    assert calibrate_run(run, scans, split=moved).split_file == moved


def test_scans_that_taught_the_run_are_refused(run: Path, scans: Path, tmp_path: Path) -> None:
    other, before = tmp_path / "other.json", contract_of(run)
    write_split(other, create_split(scans, seed=1, validation=0.5, test=0.25))
    with pytest.raises(DatasetError, match=r"\d of the 12 validation scans .* are training scans of this run"):
        calibrate_run(run, scans, split=other)
    assert contract_of(run) == before


def test_scans_that_cannot_be_used_stop_or_are_left_out(run: Path, scans: Path) -> None:
    split = read_split(run / "split.json")
    first, *_ = split.validation
    (scans / first.path).write_bytes(b"no scan")
    damaged = tuple(msgspec.structs.replace(e, sha256=content_sha256(scans / e.path)) for e in split.entries)
    write_split(run / "split.json", replace(split, entries=damaged))
    with pytest.raises(DatasetError, match=rf"1 of 12 scans cannot be used.*\n.*{first.path}"):
        calibrate_run(run, scans)
    made = calibrate_run(run, scans, skip_bad=True)
    assert [path for path, _ in made.left_out] == [first.path]


def test_separated_scores_leave_the_temperature_and_say_so(run: Path, graded: GradedFolder) -> None:
    clear = graded("clear", normal=[-980 + n for n in range(6)], abnormal=[300 + n for n in range(6)])
    write_split(run / "split.json", create_split(clear, validation=0.5))
    made = calibrate_run(run, clear)
    assert made.after.temperature == 1
    assert "stays 1" in made.warnings[-1]


def test_a_model_that_is_always_wrong_runs_to_the_end_of_the_search(run: Path, graded: GradedFolder) -> None:
    turned = graded("turned", normal=[300 + n for n in range(6)], abnormal=[-980 + n for n in range(6)])
    write_split(run / "split.json", create_split(turned, validation=0.5))
    made = calibrate_run(run, turned)
    assert made.after.temperature == pytest.approx(TEMPERATURE_SEARCH_RANGE[1], rel=1e-3)
    assert "at an end of its range" in made.warnings[-1]


def test_a_model_that_answers_the_same_is_told(run: Path, graded: GradedFolder) -> None:
    same = graded("same", normal=[0] * 6, abnormal=[1] * 6)
    write_split(run / "split.json", create_split(same, validation=0.5))
    assert "nearly the same for every scan" in calibrate_run(run, same).warnings[0]


def test_tempered_thresholds_stand_between_scans(run: Path, scans: Path) -> None:
    made = calibrate_run(run, scans, rule=ThresholdRule(0.8))
    judged = evaluate(run, scans, config=ANY_SCAN_KERAS, split=run / "split.json", subset="validation", resamples=100)
    scores = np.array([verdict.probability for verdict in judged.scans])
    assert np.abs(scores - made.after.threshold).min() > 1e-4
