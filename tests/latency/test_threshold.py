import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.compare import PercentileChange, RegressionThreshold


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
