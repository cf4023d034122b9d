from dataclasses import replace

import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.compare import (
    PercentileChange,
    RegressionThreshold,
    comparability_errors,
    comparability_notes,
    compare_percentile,
)
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import SystemSnapshot


def noise(seed: int, count: int = 100, level: float = 300) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(level, 10, count)]


def test_a_slower_series_is_called_slower_and_a_faster_one_faster() -> None:
    slower, faster = (
        compare_percentile(noise(1), noise(2, level=330)),
        compare_percentile(noise(2, level=330), noise(1)),
    )
    assert slower.significant
    assert slower.describe().endswith("% slower")
    assert slower.low is not None
    assert slower.high is not None
    assert slower.low < 1.1 < slower.high
    assert faster.describe().endswith("% faster")


def test_two_series_of_one_kind_show_no_significant_difference() -> None:
    """At 99 % one of a hundred may; three or more of thirty have a chance of 0.3 %."""
    wrong = sum(compare_percentile(noise(n), noise(n + 1000)).significant for n in range(30))
    assert wrong <= 2
    assert compare_percentile(noise(1), noise(1)).describe() == "no significant difference"


def test_the_interval_of_a_tail_holds_the_true_ratio() -> None:
    change = compare_percentile(noise(1, 700), noise(2, 700, level=330), 99)
    assert change.low is not None
    assert change.high is not None
    assert change.low < (330 + 23.3) / (300 + 23.3) < change.high


def test_neighbours_that_resemble_each_other_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    walk = np.repeat(rng.normal(300, 10, 20), 10)
    alike = compare_percentile(walk.tolist(), walk[::-1].tolist())
    shuffled = compare_percentile(rng.permutation(walk).tolist(), rng.permutation(walk).tolist())
    assert alike.low is not None
    assert shuffled.low is not None
    assert alike.low < shuffled.low


def test_pairing_removes_a_drift_that_meets_both() -> None:
    drift = np.linspace(1, 3, 100)
    before = drift * np.asarray(noise(1))
    after = drift * np.asarray(noise(2)) * 1.05
    assert not compare_percentile(before.tolist(), after.tolist()).significant
    assert compare_percentile(before.tolist(), after.tolist(), paired=True).significant
    tail = [compare_percentile(before.tolist(), after.tolist(), 90, paired=paired) for paired in (False, True)]
    widths = [change.high - change.low for change in tail if change.high and change.low]
    assert widths[1] < widths[0]


def test_the_paired_ratio_is_the_median_of_the_ratios() -> None:
    change = compare_percentile([1, 2, 4] * 5, [2, 2, 16] * 5, paired=True)
    assert (change.ratio, change.before, change.after) == (2, 2, 2)


@pytest.mark.parametrize(("rank", "count", "missing"), [(50, 7, 1), (90, 50, 14), (99, 600, 62)])
def test_too_few_samples_are_said_not_judged(rank: float, count: int, missing: int) -> None:
    change = compare_percentile(noise(1, count), noise(2, 700, level=600), rank)
    assert (change.missing, change.low, change.significant) == (missing, None, False)
    assert change.describe() == f"cannot be compared: needs {missing} more runs"


def test_the_same_seed_gives_the_same_interval() -> None:
    assert compare_percentile(noise(1), noise(2)) == compare_percentile(noise(1), noise(2))
    assert compare_percentile(noise(1), noise(2)) != compare_percentile(noise(1), noise(2), seed=1)


def test_paired_series_have_one_length() -> None:
    with pytest.raises(ValueError, match="one length"):
        compare_percentile([1, 2], [1], paired=True)


RECORD = BenchRecord(
    "how long?",
    {"cpu": "some", "cores_usable": 2, "governor": None, "packages": {"numpy": "2.1", "onnxruntime": "1.24"}},
    {"scans": ["a.nii"], "receipt": {"actual": "cpu", "model_sha256": "abc"}},
    {},
    Samples({}, {"infer": (1.0,)}),
)


def test_a_record_may_be_compared_with_its_like() -> None:
    assert comparability_errors(RECORD, RECORD) == []
    assert comparability_notes(RECORD, RECORD) == []


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({"question": "how far?"}, "question: 'how long?' and 'how far?'"),
        ({"environment": {**RECORD.environment, "cpu": "other"}}, "cpu: some and other"),
        ({"environment": {**RECORD.environment, "governor": "powersave"}}, "governor: unknown and powersave"),
        ({"conditions": {**RECORD.conditions, "scans": ["b.nii"]}}, "scans: ['a.nii'] and ['b.nii']"),
    ],
)
def test_another_machine_or_other_work_is_an_obstacle(changes: dict[str, object], clause: str) -> None:
    assert comparability_errors(RECORD, replace(RECORD, **changes)) == [clause]  # type: ignore[arg-type]


def test_another_version_or_model_is_said() -> None:
    newer = {**RECORD.environment, "packages": {"numpy": "2.1", "onnxruntime": "1.31"}}
    other = {**RECORD.conditions, "receipt": {"actual": "cpu", "model_sha256": "def"}}
    changed = replace(RECORD, environment=newer, conditions=other)
    assert comparability_errors(RECORD, changed) == []
    assert comparability_notes(RECORD, changed) == [
        "Differs: packages.onnxruntime: 1.24 and 1.31",
        "Differs: receipt.model_sha256: abc and def",
    ]


def test_disturbances_and_missing_samples_are_said_of_each() -> None:
    seen = (SystemSnapshot(0, 0, busy_s=0), SystemSnapshot(10, 10, busy_s=25))
    assert comparability_notes(replace(RECORD, surroundings=seen), replace(RECORD, incomplete="Ctrl-C in run 3")) == [
        "During the first record other processes used 1.5 cores on average.",
        "The second record is incomplete: Ctrl-C in run 3",
    ]


def change(ratio: float, low: float | None = 0.9, high: float | None = 1.5, missing: int = 0) -> PercentileChange:
    return PercentileChange(50, 100, 100 * ratio, ratio, low, high, False, missing)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p50 > +5%", (None, 50, 5, "%")),
        ("p99.9>5 %", (None, 99.9, 5, "%")),
        ("  p99 > 0.5%  ", (None, 99, 0.5, "%")),
        ("infer p90 > 400ms", ("infer", 90, 400, "ms")),
        ("file to decision p95 > +10%", ("file to decision", 95, 10, "%")),
    ],
)
def test_expressions_are_read(text: str, expected: tuple[str | None, float, float, str]) -> None:
    threshold = RegressionThreshold.parse(text)
    assert (threshold.series, threshold.rank, threshold.limit, threshold.unit) == expected


@pytest.mark.parametrize(
    "text", ["", "p50", "p50 > 5", "p50 < 5%", "p42 > 5%", "p50 > -5%", "p50 > x%", "mean > 5%", "p999 > 5%"]
)
def test_what_is_not_of_the_form_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="A threshold is"):
        RegressionThreshold.parse(text)


@pytest.mark.parametrize(
    ("found", "exceeded"),
    [
        (change(1.06, 1.01, 1.11), True),
        (change(1.06, 0.99, 1.13), False),  # may be noise
        (change(1.04, 1.02, 1.06), False),  # certain, but allowed
        (change(0.80, 0.70, 0.90), False),
    ],
)
def test_a_share_is_exceeded_by_what_is_both_large_and_significant(found: PercentileChange, exceeded: bool) -> None:
    assert RegressionThreshold.parse("p50 > +5%").exceeded_by(found) is exceeded


def test_an_absolute_limit_is_exceeded_by_the_second_value() -> None:
    threshold = RegressionThreshold.parse("p50 > 105ms")
    assert threshold.exceeded_by(change(1.06))
    assert not threshold.exceeded_by(change(1.05))


def test_a_threshold_without_enough_runs_is_an_error() -> None:
    with pytest.raises(UsageError, match="needs 14 more runs"):
        RegressionThreshold.parse("p90 > 5%").exceeded_by(change(1.0, None, None, missing=14))
