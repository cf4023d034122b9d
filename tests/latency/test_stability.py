import numpy as np
import pytest

from ct3d_edge.latency.stability import interference, split_two_modes, stability_warnings, trend_p_value
from ct3d_edge.latency.system_monitor import SystemSnapshot

RNG = np.random.default_rng(11)
QUIET = (SystemSnapshot(0, 0, busy_s=0), SystemSnapshot(60, 100, busy_s=101))
BUSY = (SystemSnapshot(0, 0, busy_s=0), SystemSnapshot(60, 100, busy_s=220))


def normal(count: int = 100, level: float = 300, noise: float = 3) -> list[float]:
    return [float(x) for x in np.random.default_rng(count).normal(level, noise, count)]


def test_a_quiet_series_has_nothing_to_be_said_of() -> None:
    assert stability_warnings(normal(), QUIET) == []


def test_a_handful_of_runs_has_no_shape() -> None:
    assert stability_warnings([1.0, 100.0] * 9, QUIET) == []


@pytest.mark.parametrize("count", [5, 100])
def test_a_shared_machine_is_said_though_it_left_no_trace(count: int) -> None:
    assert stability_warnings(normal(count), BUSY) == [
        "While this was measured, other processes used 2.0 cores on average."
    ]


def test_outliers_are_counted_not_dropped() -> None:
    found = stability_warnings([*normal(), 900.04, 700], QUIET)
    assert found[0] == "2 of 102 runs are outliers, up to 900.0 ms; they are counted."
    assert found[1] == "No cause was observed on this machine."


def test_without_a_monitor_no_cause_is_denied() -> None:
    assert stability_warnings([*normal(), 900])[-1] == "The machine was not monitored, so no cause can be named."


def test_the_cause_that_was_seen_is_named() -> None:
    assert stability_warnings([*normal(), 900], BUSY)[-1] == "Likely cause: other processes used 2.0 cores on average."


@pytest.mark.parametrize(("end", "way"), [(330, "slower"), (270, "faster")])
def test_a_drift_is_told_with_its_way(end: float, way: str) -> None:
    series = [x + shift for x, shift in zip(normal(), np.linspace(0, end - 300, 100), strict=True)]
    (drift,) = (text for text in stability_warnings(series) if text.startswith("Drift"))
    assert f"% {way} than the first" in drift


def test_a_change_of_less_than_two_percent_is_no_drift() -> None:
    assert stability_warnings([x + shift for x, shift in zip(normal(), np.linspace(0, 5, 100), strict=True)]) == []


def test_two_levels_are_told_with_their_shares() -> None:
    series = [x + (60 if n % 4 == 0 else 0) for n, x in enumerate(normal())]
    (levels,) = (text for text in stability_warnings(series) if text.startswith("Two levels"))
    assert "75% of the runs around 30" in levels
    assert "25% of the runs around 36" in levels


@pytest.mark.parametrize("draw", [RNG.normal, RNG.uniform, RNG.exponential, RNG.lognormal, RNG.gumbel])
def test_one_peak_of_any_kind_is_one_level(draw) -> None:  # type: ignore[no-untyped-def]
    assert all(split_two_modes(draw(size=60) + 100) is None for _ in range(30))


def test_equal_durations_are_one_level() -> None:
    assert split_two_modes([5.0] * 40) is None
    assert stability_warnings([5.0] * 40) == []


def test_a_wide_series_is_unstable() -> None:
    assert any(text.startswith("Unstable: the middle half") for text in stability_warnings(normal(noise=40)))


def test_the_chance_of_a_trend_is_mann_and_kendalls() -> None:
    from scipy.stats import kendalltau

    series = RNG.normal(size=60) + np.linspace(0, 1, 60)
    expected = kendalltau(np.arange(60), series, method="asymptotic").pvalue
    assert trend_p_value(series.tolist()) == pytest.approx(expected, rel=1e-9)


def test_an_undisturbed_machine_gives_no_clause() -> None:
    quiet = [
        SystemSnapshot(0, 10, busy_s=500, stolen_s=1, mhz=3000),
        SystemSnapshot(10, 30, busy_s=520.5, stolen_s=1, mhz=2990),
    ]
    assert interference(quiet) == []
    assert interference(quiet[:1]) == []
    assert interference([SystemSnapshot(0, 1), SystemSnapshot(10, 2)]) == []


def test_each_disturbance_has_its_clause() -> None:
    before = SystemSnapshot(0, 10, busy_s=500, stolen_s=1, mhz=3000, throttled=4, too_hot=0)
    after = SystemSnapshot(10, 30, busy_s=535, stolen_s=3, mhz=1500, throttled=10, too_hot=2)
    assert interference([before, after]) == [
        "other processes used 1.5 cores on average",
        "the hypervisor ran other guests for 2.0 s",
        "the CPU ran at 1500 to 3000 MHz",
        "the container's CPU quota stopped it in 6 periods",
        "cores were slowed down for heat 2 times",
    ]
