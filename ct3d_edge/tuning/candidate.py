"""One way to run a model, and what its measurement came to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ct3d_edge.conversion.precision.tolerances import PRECISIONS, Arithmetic, Precision
from ct3d_edge.formatting import plural
from ct3d_edge.modelfile.model_file import ModelFile

if TYPE_CHECKING:
    from ct3d_edge.latency.statistics import Percentile

OptimizationLevel = Literal["none", "exact", "fast", "small"]
LEVELS: tuple[OptimizationLevel, ...] = get_args(OptimizationLevel)
"""What the passes do, from the least to the most; each does all that the ones before it do."""

Target = Literal["cpu", "openvino", "cuda", "tensorrt", "no-conv3d"]
"""Device classes that the passes know; `pipeline.Target`, which reading a tuning result does not load."""

Filtering = Literal["none", "depth", "all"]
"""Axes of minimal filtering; `pipeline.WinogradAxes`, which reading a tuning result does not load."""

ProviderSettings = tuple[tuple[str, str], ...]
"""Options of the provider that are not at their defaults, as ``(name, value)``."""


BF16_SETTING = ("inference_precision", "bf16")
"""Of OpenVINO: round to bfloat16."""


FILTERING_NAMES: dict[Filtering, str] = {"none": " unfiltered", "depth": " filtered along depth", "all": ""}


@dataclass(frozen=True)
class GraphForm:
    """What a graph can be made into.

    Parameters
    ----------
    level
        What is done to the given graph; ``none`` leaves it as it is.
    precision
        Number type in which it computes.
    target
        Device class that the passes make it for.
    filtering
        Axes along which minimal filtering is permitted.
    """

    level: OptimizationLevel
    precision: Precision = "fp32"
    target: Target = "cpu"
    filtering: Filtering = "all"

    @property
    def name(self) -> str:
        """A short text that no other form has."""
        if self.level == "none":
            return f"as given, {self.precision}"
        target = "" if self.target == "cpu" else f" for {self.target}"
        return f"{self.level}{target}{FILTERING_NAMES[self.filtering]}, {self.precision}"


@dataclass(frozen=True)
class Candidate:
    """One way to run a model.

    Parameters
    ----------
    level, precision, target, filtering
        As in `GraphForm`.
    threads
        Within an operator on the CPU; all usable cores where the provider chooses by itself.
    options
        See `ProviderSettings`.
    """

    level: OptimizationLevel
    threads: int
    options: ProviderSettings = ()
    precision: Precision = "fp32"
    target: Target = "cpu"
    filtering: Filtering = "all"

    @property
    def form(self) -> GraphForm:
        """Which file it runs."""
        return GraphForm(self.level, self.precision, self.target, self.filtering)

    @property
    def arithmetic(self) -> Arithmetic:
        """What its session computes in."""
        return "bf16" if BF16_SETTING in self.options else self.precision

    @property
    def name(self) -> str:
        """A short line that no other candidate has."""
        threads = plural(self.threads, "thread")
        return ", ".join([self.form.name, threads, *(f"{key}={value}" for key, value in self.options)])


def get_model_precision(model: ModelFile) -> Precision:
    """The precision of a file; float32 if its provenance has an unknown value."""
    return next((name for name in PRECISIONS if name == model.arithmetic), "fp32")


@dataclass(frozen=True)
class CandidateResult:
    """What came of a candidate.

    Parameters
    ----------
    candidate
        What was tried.
    dropped
        Why it cannot be selected; None if it passed the parity check.
    difference
        Largest difference of a probability from the given model's in the parity check.
    memory
        Bytes that session and runs add to a process of their own.
    samples
        Every duration of a run, in ms, in the order in which they were taken.
    """

    candidate: Candidate
    dropped: str | None = None
    difference: float | None = None
    memory: int | None = None
    samples: tuple[float, ...] = ()

    @property
    def median(self) -> "Percentile":
        """Of a run, in ms."""
        from ct3d_edge.latency.statistics import percentile  # `infer` reads tuning results and loads nothing of latency

        return percentile(self.samples, 50)
