"""The result of tuning, beside a model: what runs, for which model, device and versions, with every sample."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ct3d_edge.conversion.precision import Precision
from ct3d_edge.errors import CheckFailedError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.provider_selection import get_device_and_versions
from ct3d_edge.system.machine import describe_machine
from ct3d_edge.tuning.candidate import Candidate, CandidateResult


@dataclass(frozen=True)
class TuningKey:
    """Everything a choice depends on.

    Parameters
    ----------
    model_sha256
        Of the bytes of the file that was given.
    provider
        That does the work.
    processor, cores
        The CPU's name, and how many of its cores may be used.
    gpu
        Name of the GPU that does the work; None without one.
    versions
        ``(name, version)`` of ct3d-edge, ONNX Runtime, the driver and the like; those that are there.
    """

    model_sha256: str
    provider: ProviderName
    processor: str
    cores: int
    gpu: str | None
    versions: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in the file of a choice."""
        return {**asdict(self), "versions": dict(self.versions)}

    def mismatch_reason(self, here: "TuningKey") -> str | None:
        """Why a choice made under this key does not hold under that one; None if it does."""
        asked = (
            ("for another model file", self.model_sha256[:12], here.model_sha256[:12]),
            ("for another provider", self.provider, here.provider),
            ("on another processor", self.processor, here.processor),
            ("with another number of cores", self.cores, here.cores),
            ("on another GPU", self.gpu, here.gpu),
        )
        for what, made, found in asked:
            if made != found:
                return f"made {what} ({made}; here it is {found})"
        made_with, found_with = dict(self.versions), dict(here.versions)
        for name in sorted({*made_with, *found_with}):
            if made_with.get(name) != found_with.get(name):
                return f"made with {name} {made_with.get(name)}; here it is {found_with.get(name)}"
        return None


def tuning_key(model_sha256: str, provider: ProviderName, device_number: int = 0) -> TuningKey:
    """The key of a model on a provider and one of its devices, here and now."""
    machine = describe_machine()
    gpu, versions = get_device_and_versions(provider, device_number)
    present = tuple((name, version) for name, version in versions if version)
    processor = machine["cpu"] or platform.machine()
    return TuningKey(model_sha256, provider, processor, machine["cores_usable"], gpu, present)


SCHEMA = 2
"""Version of the JSON form; raised when the meaning of a field changes."""


def tuning_result_path(model: Path, provider: ProviderName = "cpu") -> Path:
    """Where the choice of a model for a provider lies, beside ``model.onnx``.

    ``model.tuned.json`` for the CPU, ``model.tuned-openvino.json`` for ``openvino``, and so on.
    """
    return model.with_suffix(".tuned.json" if provider == "cpu" else f".tuned-{provider}.json")


def tuned_model_path(model: Path, provider: ProviderName = "cpu") -> Path:
    """Where the chosen file lies if it is not the given one: under the same name, ``.onnx``."""
    return tuning_result_path(model, provider).with_suffix(".onnx")


@dataclass(frozen=True)
class TuningResult:
    """One tuning.

    Parameters
    ----------
    key
        What it was made for.
    created
        When, in ISO 8601.
    file_sha256
        Of the file that runs: the key's for the given one, else that of its neighbour (see ``tuned_model_path``).
    selected, baseline
        Positions in ``results`` of what was chosen, and of the given file with default options.
    memory_budget
        Bytes that a candidate might add; None without a limit.
    material, limits
        What every candidate was proven on, in words, and by precision the largest difference of a probability from
        the given file's that passed.
    results
        Every candidate, those that were dropped included.
    """

    key: TuningKey
    created: str
    file_sha256: str
    selected: int
    baseline: int
    memory_budget: int | None
    material: str
    limits: Mapping[Precision, float]
    results: tuple[CandidateResult, ...]

    @property
    def candidate(self) -> Candidate:
        """What was chosen."""
        return self.results[self.selected].candidate

    @property
    def lowers_precision(self) -> bool:
        """Whether it computes in something else than the given file, so that answers differ."""
        return self.candidate.precision != self.results[self.baseline].candidate.precision

    def describe_precision(self) -> str:
        """How far the probabilities of a choice in lower precision are from the given file's."""
        best = self.results[self.selected]
        precision = best.candidate.precision
        return (
            f"it computes in {precision}, and its probabilities differ from the given file's: by up to "
            f"{best.difference or 0:.1e} on {self.material} (limit {self.limits[precision]:.0e})"
        )

    @property
    def uses_original_file(self) -> bool:
        """Whether the given file itself runs."""
        return self.file_sha256 == self.key.model_sha256

    def to_json(self) -> str:
        """Indented JSON, without NaN."""
        told: dict[str, Any] = {
            "schema": SCHEMA,
            "created": self.created,
            "key": self.key.to_dict(),
            "file_sha256": self.file_sha256,
            "chosen": self.selected,
            "standard": self.baseline,
            "memory_budget": self.memory_budget,
            "proof": {"material": self.material, "limits": dict(self.limits)},
            "candidates": [_result_to_dict(result) for result in self.results],
        }
        return json.dumps(told, indent=1, allow_nan=False) + "\n"


def choose_fastest(results: Sequence[CandidateResult], memory_budget: int | None) -> int:
    """Position of the candidate with the lowest median among those that hold and stay within the budget.

    Raises
    ------
    GateError
        If there is none.
    """
    holding = [n for n, result in enumerate(results) if result.dropped is None]
    if not holding:
        raise CheckFailedError(
            f"None of {len(results)} candidates holds the proof, so nothing was written. "
            "Look at the reasons above; --atol permits a larger difference."
        )
    check_memory_budget([results[n] for n in holding], memory_budget)
    fitting = [n for n in holding if not exceeds_memory_budget(results[n], memory_budget)]
    return min(fitting, key=lambda n: results[n].median.value)


def check_memory_budget(results: Sequence[CandidateResult], memory_budget: int | None) -> None:
    """Stop if no candidate that is left stays within the budget.

    Raises
    ------
    GateError
        With what the smallest one adds.
    """
    weighed = [result for result in results if result.dropped is None]
    if weighed and all(exceeds_memory_budget(result, memory_budget) for result in weighed):
        least = min(result.memory or 0 for result in weighed)
        raise CheckFailedError(
            f"No candidate stays within {format_bytes(memory_budget or 0)}: the smallest adds {format_bytes(least)}. "
            "Nothing was written. Give a larger --max-memory."
        )


def exceeds_memory_budget(result: CandidateResult, memory_budget: int | None) -> bool:
    """Whether a candidate adds more memory than is permitted."""
    return memory_budget is not None and (result.memory or 0) > memory_budget


def _result_to_dict(result: CandidateResult) -> dict[str, Any]:
    candidate = result.candidate
    return {
        "level": candidate.level,
        "precision": candidate.precision,
        "threads": candidate.threads,
        "options": dict(candidate.options),
        "dropped": result.dropped,
        "difference": result.difference,
        "memory_bytes": result.memory,
        "samples_ms": list(result.samples),
    }
