import os
from pathlib import Path

import pytest

from ct3d_edge.latency import system_monitor
from ct3d_edge.latency.system_monitor import SystemMonitor, SystemSnapshot, interference, take_snapshot
from ct3d_edge.progress import no_progress

from .conftest import FakeClock

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose system files are in a folder, and missing at first."""
    for name in ("STAT", "CPUINFO", "CGROUP_CPU_STAT", "CPUS"):
        monkeypatch.setattr(system_monitor, name, tmp_path / name)
    return tmp_path


def test_a_system_that_tells_nothing_leaves_its_fields_empty(files: Path) -> None:
    found = take_snapshot(3.0)
    assert found.at_s == 3
    assert found.own_s > 0
    assert (found.busy_s, found.stolen_s, found.mhz, found.throttled, found.too_hot) == (None,) * 5


def test_busy_time_is_neither_idle_nor_waiting_nor_stolen(files: Path) -> None:
    numbers = [1, 2, 4, 1000, 1000, 8, 16, 32, 500, 500]
    (files / "STAT").write_text(f"cpu  {' '.join(str(n * TICKS) for n in numbers)}\ncpu0 1 2 3\n")
    found = take_snapshot(0)
    assert (found.busy_s, found.stolen_s) == (1 + 2 + 4 + 8 + 16, 32)


def test_counters_and_frequencies_are_gathered_from_all_cores(files: Path) -> None:
    for core, (khz, hot) in enumerate([(2_000_000, 3), (3_000_000, 4)]):
        folder = files / "CPUS" / f"cpu{core}"
        for name, value in {"cpufreq/scaling_cur_freq": khz, "thermal_throttle/core_throttle_count": hot}.items():
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text(f"{value}\n")
    (files / "CGROUP_CPU_STAT").write_text("usage_usec 5\nnr_periods 9\nnr_throttled 7\n")
    found = take_snapshot(0)
    assert (found.mhz, found.too_hot, found.throttled) == (2500, 7, 7)


def test_without_a_frequency_driver_cpuinfo_is_asked(files: Path) -> None:
    (files / "CPUINFO").write_text("processor\t: 0\ncpu MHz\t\t: 2000.5\n\nprocessor\t: 1\ncpu MHz\t\t: 2100.5\n")
    assert take_snapshot(0).mhz == 2050.5


def test_a_monitor_samples_no_more_often_than_asked(clock: FakeClock) -> None:
    monitor = SystemMonitor(clock, every_s=1, read=lambda at_s: SystemSnapshot(at_s, own_s=0))
    step = monitor.watch(no_progress)
    for _ in range(30):
        clock.pass_ms(300)
        step(0, None, "Runs")
    assert [round(snapshot.at_s, 1) for snapshot in monitor.finish()] == [0, 1.2, 2.4, 3.6, 4.8, 6.0, 7.2, 8.4, 9.0]


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
