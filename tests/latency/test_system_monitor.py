import os
from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.latency import system_monitor
from ct3d_edge.latency.system_monitor import (
    SystemMonitor,
    SystemSnapshot,
    read_energy,
    read_peak_bytes,
    read_resident_bytes,
    take_snapshot,
)
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


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc")
def test_memory_that_is_used_is_resident_and_its_peak_stays() -> None:
    before = read_resident_bytes()
    block = np.ones(64 << 20, np.uint8)
    during, peak = read_resident_bytes(), read_peak_bytes()
    assert before is not None
    assert during is not None
    assert peak is not None
    assert during - before > 0.9 * block.nbytes
    assert peak >= 0.99 * during
    del block


@pytest.fixture
def rapl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two packages and a part of the first, whose energy is in the package's already."""
    for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("1000000\n")
        (tmp_path / name / "max_energy_range_uj").write_text("9000000\n")
    monkeypatch.setattr(system_monitor, "POWERCAP", tmp_path)
    return tmp_path


def test_energy_is_the_sum_of_the_packages(rapl: Path) -> None:
    before = read_energy()
    for name, count in (("intel-rapl:0", 3_000_000), ("intel-rapl:0:0", 2_000_000), ("intel-rapl:1", 1_500_000)):
        (rapl / name / "energy_uj").write_text(f"{count}\n")
    after = read_energy()
    assert before is not None
    assert after is not None
    assert before.joules_to(after) == 2.5


def test_a_counter_that_begins_again_is_understood(rapl: Path) -> None:
    before = read_energy()
    (rapl / "intel-rapl:1" / "energy_uj").write_text("400000\n")
    after = read_energy()
    assert before is not None
    assert after is not None
    assert before.joules_to(after) == pytest.approx(8.4)


def test_counters_that_may_not_be_read_give_nothing(rapl: Path) -> None:
    (rapl / "intel-rapl:1" / "energy_uj").unlink()
    assert read_energy() is None


def test_what_a_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STATM", "STATUS", "POWERCAP"):
        monkeypatch.setattr(system_monitor, name, tmp_path / "absent")
    assert (read_resident_bytes(), read_peak_bytes(), read_energy()) == (None, None, None)
