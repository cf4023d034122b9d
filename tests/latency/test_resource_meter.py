from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.latency import resource_meter
from ct3d_edge.latency.resource_meter import read_energy, read_peak_bytes, read_resident_bytes


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
    monkeypatch.setattr(resource_meter, "POWERCAP", tmp_path)
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
        monkeypatch.setattr(resource_meter, name, tmp_path / "absent")
    assert (read_resident_bytes(), read_peak_bytes(), read_energy()) == (None, None, None)
