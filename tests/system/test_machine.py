import json
import os
from importlib import metadata
from pathlib import Path

import pytest

from ct3d_edge.system import machine
from ct3d_edge.system.machine import count_usable_cores, describe_machine, read_available_memory

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu sse sse2 fma avx2 avx512f avx512_vnni notavx
bugs\t\t: spectre: v1 v2

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu
"""

ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes asimdhp asimddp
CPU part\t: 0xd0b
"""


def described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **files: str) -> dict[str, object]:
    """Description of a machine whose system files are ``files`` and otherwise missing."""
    for name in ("CPUINFO", "MEMINFO", "CGROUP_CPU_MAX", "GOVERNOR"):
        path = tmp_path / name
        if name in files:
            path.write_text(files[name])
        monkeypatch.setattr(machine, name, path)
    return describe_machine()


def test_the_first_processor_describes_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = described(monkeypatch, tmp_path, CPUINFO=X86)
    assert found["cpu"] == "Some CPU @ 2.00GHz"
    assert found["cpu_flags"] == ["avx2", "fma", "avx512f", "avx512_vnni"]


def test_an_arm_processor_lists_its_features_under_another_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert described(monkeypatch, tmp_path, CPUINFO=ARM)["cpu_flags"] == ["asimddp"]


def test_limits_of_the_machine_are_as_the_system_writes_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = described(
        monkeypatch,
        tmp_path,
        MEMINFO="MemTotal:       16384 kB\nMemFree:  1 kB\n",
        CGROUP_CPU_MAX="200000 100000\n",
        GOVERNOR="performance\n",
    )
    assert found["memory"] == "16384 kB"
    assert found["cgroup_cpu_max"] == "200000 100000"
    assert found["governor"] == "performance"


def test_what_a_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = described(monkeypatch, tmp_path)
    assert [found[name] for name in ("memory", "cgroup_cpu_max", "governor")] == [None] * 3
    assert found["cpu_flags"] == []


def test_packages_that_are_not_installed_are_left_out() -> None:
    packages = describe_machine(["numpy", "no-such-distribution", "nibabel"])["packages"]
    assert packages == {"numpy": metadata.version("numpy"), "nibabel": metadata.version("nibabel")}


def test_the_description_of_this_machine_is_plain_data() -> None:
    found = describe_machine(["numpy"])
    assert json.loads(json.dumps(found)) == found
    assert found["cores_usable"] == count_usable_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to cores")
def test_usable_cores_are_those_the_process_is_bound_to() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert count_usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert count_usable_cores() == len(before)


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("150000 100000", 2), ("1000 100000", 1), ("9900000 100000", 8), ("", 8)]
)
def test_a_containers_quota_bounds_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    described(monkeypatch, tmp_path, CGROUP_CPU_MAX=quota)
    assert count_usable_cores() == expected


def test_available_memory_is_the_tightest_of_what_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    described(monkeypatch, tmp_path, MEMINFO="MemTotal: 4000 kB\nMemAvailable:   2000 kB\n")
    monkeypatch.setattr(machine, "CGROUP_MEMORY", tmp_path)
    assert read_available_memory() == 2000 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert read_available_memory() == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert read_available_memory() == 2000 * 1024


def test_a_system_that_tells_nothing_has_unknown_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    described(monkeypatch, tmp_path)
    monkeypatch.setattr(machine, "CGROUP_MEMORY", tmp_path)
    assert read_available_memory() is None


def test_cpu_features_are_told_as_people_name_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    described(monkeypatch, tmp_path, CPUINFO=X86)
    assert machine.detect_cpu_features() == {"AVX2": True, "AVX-512": True, "VNNI": True, "BF16": False, "AMX": False}
    described(monkeypatch, tmp_path, CPUINFO=X86.replace("avx512_vnni", "amx_tile"))
    assert machine.detect_cpu_features() == {"AVX2": True, "AVX-512": True, "VNNI": False, "BF16": False, "AMX": True}


@pytest.mark.parametrize("cpuinfo", [ARM, ""])
def test_cpu_features_of_another_kind_of_cpu_are_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str
) -> None:
    described(monkeypatch, tmp_path, CPUINFO=cpuinfo)
    assert machine.detect_cpu_features() is None


@pytest.mark.parametrize(("written", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("", None)])
def test_a_containers_quota_is_told_in_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str, quota: float | None
) -> None:
    described(monkeypatch, tmp_path, CGROUP_CPU_MAX=written)
    assert machine.read_cpu_quota() == quota
