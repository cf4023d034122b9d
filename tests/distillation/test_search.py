"""The space of networks, and the largest of it that meets a target when its file is measured."""

from dataclasses import replace
from typing import Any

import pytest
from networks import tiny_network

from ct3d_edge.contract import Contract
from ct3d_edge.distillation.candidates import Candidate, list_candidates
from ct3d_edge.distillation.search import Measurement, Target, search
from ct3d_edge.errors import CheckFailedError, UsageError
from ct3d_edge.training.network import NetworkSpec
from ct3d_edge.training.teacher import Teacher

SIZE = (16, 16, 16)
LARGE, SMALL = (Candidate(NetworkSpec(name, (count,), hidden_units=4), SIZE) for name, count in (("a", 512), ("b", 4)))
MEASURED = Measurement(SMALL.network, SIZE, 10.0, 50.0, 5.0, 1000, 2000)


@pytest.fixture
def teacher() -> Teacher:
    return Teacher(tiny_network((*SIZE, 1)), Contract(shape=SIZE), "0" * 64)


def test_the_space_of_the_usual_input() -> None:
    candidates = list_candidates(Contract())
    assert len(candidates) > 30
    assert {candidate.size for candidate in candidates} == {(128, 128, 64), (96, 96, 48), (64, 64, 32)}
    work = [candidate.multiply_adds for candidate in candidates]
    assert work == sorted(work, reverse=True)
    assert len({(candidate.network.name, candidate.size) for candidate in candidates}) == len(candidates)
    for candidate in candidates:
        assert min(candidate.size) >= candidate.network.smallest_size()


def test_multiply_adds_of_a_chain() -> None:
    first, second = 14**3 * 27 * 3, 5**3 * 27 * 3 * 2
    assert NetworkSpec("x", (3, 2)).count_multiply_adds(SIZE) == first + second
    assert NetworkSpec("x", (3,), stem_stride=2).count_multiply_adds((16, 16, 17)) == 7 * 7 * 8 * 27 * 3


@pytest.mark.parametrize(
    ("target", "excess"),
    [
        (Target(speedup=10), 2.0),
        (Target(latency_ms=40), 0.25),
        (Target(size_bytes=500, latency_ms=40), 2.0),
        (Target(memory_bytes=1000), 2.0),
    ],
)
def test_the_worst_limit_counts(target: Target, excess: float) -> None:
    assert MEASURED.excess(target) == excess


def test_a_line_for_people() -> None:
    assert MEASURED.describe() == (
        "b on 16x16x16: 10.0 ms, 5.0 times as fast as the teacher (50.0 ms), 1 kB, 2 kB of memory"
    )
    assert replace(MEASURED, memory_bytes=None).describe().endswith("1 kB")


def test_the_largest_that_meets_the_target(teacher: Teacher) -> None:
    measured: list[Measurement] = []
    found = search(teacher, Target(size_bytes=10**9, memory_bytes=10**12), [LARGE, SMALL], measured.append)
    assert (found.network.name, found.size, len(measured)) == ("a", SIZE, 1)
    assert found.memory_bytes
    assert found.latency_ms > 0
    found = search(teacher, Target(size_bytes=20_000), [LARGE, SMALL], measured.append)
    assert found.network.name == "b"
    assert [one.network.name for one in measured] == ["a", "b"], "weights alone were too large: not measured"
    assert 0 < found.size_bytes <= 20_000


def test_a_target_that_cannot_be_met_names_the_nearest(teacher: Teacher) -> None:
    with pytest.raises(CheckFailedError, match=r"None of 2 networks meets .* The nearest: b on 16x16x16: .* ms"):
        search(teacher, Target(latency_ms=1e-9), [LARGE, SMALL])


def test_no_network_for_the_input(teacher: Teacher) -> None:
    with pytest.raises(UsageError, match="takes an input of 16x16x16 voxels"):
        search(teacher, Target(speedup=2), list_candidates(teacher.contract))


@pytest.mark.parametrize("values", [{}, {"speedup": -1.0}])
def test_targets_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="target"):
        Target(**values)
