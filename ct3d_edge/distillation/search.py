"""The largest network of a small space whose exported file meets a target on this device, before it is trained."""

import logging
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ct3d_edge.contract import Contract
from ct3d_edge.distillation.candidates import Candidate
from ct3d_edge.errors import CheckFailedError, UsageError
from ct3d_edge.formatting import format_bytes

if TYPE_CHECKING:
    from ct3d_edge.modelfile.model_file import ModelFile
    from ct3d_edge.training.network import NetworkSpec
    from ct3d_edge.training.teacher import Teacher

LOGGER = logging.getLogger("ct3d_edge.distillation")

ROUNDS = 5
"""Interleaved runs of teacher and candidate, after one that is not counted; the median of their ratios counts."""

GAIN_LEFT = 2.0
"""A candidate is not measured if it would have to be faster than its arithmetic promises by this factor."""


@dataclass(frozen=True)
class Target:
    """What the exported file of a network must be on this device; None for no limit.

    Parameters
    ----------
    speedup
        Times as fast as the exported file of the teacher, from network input to probability.
    latency_ms
        Of one run, in ms.
    memory_bytes
        That its session and runs add to a process.
    size_bytes
        Of the file.

    Raises
    ------
    UsageError
        If a limit is not positive, or there is none.
    """

    speedup: float | None = None
    latency_ms: float | None = None
    memory_bytes: int | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        limits = (self.speedup, self.latency_ms, self.memory_bytes, self.size_bytes)
        given = [value for value in limits if value is not None]
        if not given:
            raise UsageError("A network is searched for a target: a speed-up, a latency, a memory or a file size.")
        if min(given) <= 0:
            raise UsageError(f"A target is a positive number, found {min(given):g}.")


@dataclass(frozen=True)
class Measurement:
    """The exported and optimised file of a network with random weights, on this device.

    Parameters
    ----------
    network, size
        The candidate, and its input in voxels.
    latency_ms, teacher_ms
        Medians of one run of its file and of the teacher's.
    speedup
        Median of the ratios of neighbouring runs.
    size_bytes
        Of the file.
    memory_bytes
        That it adds; None if there is no limit for it, so that it was not measured.
    """

    network: "NetworkSpec"
    size: tuple[int, int, int]
    latency_ms: float
    teacher_ms: float
    speedup: float
    size_bytes: int
    memory_bytes: int | None = None

    def excess(self, target: Target) -> float:
        """By what factor the worst of the limits is missed; at most 1 if all are met."""
        ratios = [
            target.speedup / self.speedup if target.speedup else 0,
            self.latency_ms / target.latency_ms if target.latency_ms else 0,
            self.size_bytes / target.size_bytes if target.size_bytes else 0,
            (self.memory_bytes or 0) / target.memory_bytes if target.memory_bytes else 0,
        ]
        return max(ratios)

    def describe(self) -> str:
        """One line for people."""
        memory = "" if self.memory_bytes is None else f", {format_bytes(self.memory_bytes)} of memory"
        return (
            f"{self.network.name} on {'x'.join(map(str, self.size))}: {self.latency_ms:.1f} ms, {self.speedup:.1f} "
            f"times as fast as the teacher ({self.teacher_ms:.1f} ms), {format_bytes(self.size_bytes)}{memory}"
        )


def search(
    teacher: "Teacher",
    target: Target,
    candidates: Sequence[Candidate],
    on_measurement: Callable[[Measurement], None] = lambda _: None,
) -> Measurement:
    """Measure candidates from the largest on until one meets the target.

    Parameters
    ----------
    candidates
        The most arithmetic first.
    on_measurement
        Receives each.

    Raises
    ------
    UsageError
        There is no candidate for the teacher's input.
    CheckFailedError
        None meets it; the message names the nearest.
    """
    if not candidates:
        sides = "x".join(map(str, teacher.contract.shape))
        raise UsageError(f"No network of `network=auto` takes an input of {sides} voxels: give a function of your own.")
    measured: list[Measurement] = []
    with TemporaryDirectory(prefix="ct3d-distill-") as folder:
        bench = _Bench(teacher, target, Path(folder))
        limit = math.inf
        for candidate in candidates:
            may_meet = candidate.multiply_adds <= limit and candidate.weight_bytes <= (target.size_bytes or math.inf)
            if not may_meet and candidate is not candidates[-1]:
                continue
            found = bench.measure(candidate)
            measured.append(found)
            on_measurement(found)
            if found.excess(target) <= 1:
                return found
            limit = _arithmetic_worth_trying(candidate, found, target)
    nearest = min(measured, key=lambda found: found.excess(target))
    raise CheckFailedError(
        f"None of {len(candidates)} networks meets the target on this device. The nearest: {nearest.describe()}. "
        "Ask for what it reaches, or give a function of your own (`network=FILE.py:function`)."
    )


def _arithmetic_worth_trying(candidate: Candidate, found: Measurement, target: Target) -> float:
    """Multiply-adds of the next candidate at most, so that it may be fast enough."""
    slower = max(
        target.speedup / found.speedup if target.speedup else 0,
        found.latency_ms / target.latency_ms if target.latency_ms else 0,
    )
    return GAIN_LEFT * candidate.multiply_adds / slower if slower > 1 else candidate.multiply_adds


class _Bench:
    """The teacher's file and those of candidates, exported as `export` does at its default level, on the CPU."""

    def __init__(self, teacher: "Teacher", target: Target, folder: Path) -> None:
        self._contract = teacher.contract
        self._student = teacher.student_contract
        self._target = target
        self._folder = folder
        LOGGER.info("exporting the teacher ...")
        self._teacher = export_untrained(teacher.network, teacher.contract, folder / "teacher.onnx")

    def measure(self, candidate: Candidate) -> Measurement:
        from ct3d_edge.tuning.memory import measure_memory_as_given

        contract = replace(self._student, shape=candidate.size)
        model = export_untrained(candidate.network.build(*candidate.size), contract, self._folder / "student.onnx")
        teacher, student = self._time(model)
        memory = measure_memory_as_given(model) if self._target.memory_bytes else None
        return Measurement(
            candidate.network,
            candidate.size,
            statistics.median(student),
            statistics.median(teacher),
            statistics.median(one / other for one, other in zip(teacher, student, strict=True)),
            len(model.data),
            memory,
        )

    def _time(self, model: "ModelFile") -> tuple[tuple[float, ...], tuple[float, ...]]:
        import numpy as np

        from ct3d_edge.latency.measure import measure_interleaved
        from ct3d_edge.session.provider_selection import SessionRequest
        from ct3d_edge.session.runner import Runner

        with ExitStack() as stack:
            runs = {
                name: partial(
                    stack.enter_context(Runner(file, SessionRequest("cpu"))).infer,
                    np.random.default_rng(0).random((1, *file.contract.shape), np.float32),
                )
                for name, file in (("teacher", self._teacher), ("student", model))
            }
            counted = measure_interleaved(runs, ROUNDS).counted
        return counted["teacher"], counted["student"]


def export_untrained(network: Any, contract: Contract, path: Path) -> "ModelFile":
    """Export and optimise a network without a parity check, to measure it: its weights may be random."""
    import onnx

    from ct3d_edge.conversion.graph_variant import CompileOptions, rewrite_graph
    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
    from ct3d_edge.conversion.optimize import load_for_compiling

    proto = rewrite_graph(convert_to_onnx(network, contract), CompileOptions()).proto
    onnx.save(proto, path)
    model = load_for_compiling(path, contract)
    path.write_bytes(model.data)
    return model
