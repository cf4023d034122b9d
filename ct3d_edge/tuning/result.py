"""The result of tuning: what runs, for which model, device and versions, with every sample."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ct3d_edge.conversion.precision.tolerances import Arithmetic
from ct3d_edge.errors import CheckFailedError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.provider_selection import get_device_and_versions
from ct3d_edge.system.machine import describe_machine
from ct3d_edge.tuning.candidate import Candidate, CandidateResult


@dataclass(frozen=True)
class TuningKey:
    """Everything a tuning result depends on.

    Parameters
    ----------
    model_sha256
        Of the bytes of the tuned file.
    provider
        Execution provider.
    processor, cores
        The CPU's name, and how many of its cores may be used.
    gpu
        Its name; None without one.
    versions
        Name to version of ct3d-edge, ONNX Runtime, the driver and the like; those that are installed.
    """

    model_sha256: str
    provider: ProviderName
    processor: str
    cores: int
    gpu: str | None
    versions: dict[str, str]

    def mismatch_reason(self, here: "TuningKey") -> str | None:
        """Why a result of this key does not apply under that one; None if it does."""
        parts = (
            ("for another model file", self.model_sha256[:12], here.model_sha256[:12]),
            ("for another provider", self.provider, here.provider),
            ("on another processor", self.processor, here.processor),
            ("with another number of cores", self.cores, here.cores),
            ("on another GPU", self.gpu, here.gpu),
        )
        for what, made, found in parts:
            if made != found:
                return f"made {what} ({made}; here it is {found})"
        for name in sorted({*self.versions, *here.versions}):
            made, found = self.versions.get(name), here.versions.get(name)
            if made != found:
                return f"made with {name} {made}; here it is {found}"
        return None


def tuning_key(model_sha256: str, provider: ProviderName, device_number: int = 0) -> TuningKey:
    """The key of a model on a provider and one of its devices, here and now."""
    machine = describe_machine()
    gpu, versions = get_device_and_versions(provider, device_number)
    present = {name: version for name, version in versions if version}
    processor = machine["cpu"] or platform.machine()
    return TuningKey(model_sha256, provider, processor, machine["cores_usable"], gpu, present)


SCHEMA = 2
"""Version of the JSON form; raised when the meaning of a field changes."""


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
        Of the file that runs: the key's, or that of the file at ``tuned_model_path``.
    selected, baseline
        Indices into ``results`` of the selected candidate, and of the tuned file with default options.
    memory_budget
        Bytes that a candidate may add; None without a limit.
    parity_data, limits
        Description of the parity data of every candidate, and by precision the largest difference of a probability
        from the tuned file's that passes.
    results
        Every candidate, those that were dropped included.
    fastest_provider
        The provider whose choice is fastest here, of those that were compared in turn; None if none were.
    """

    key: TuningKey
    created: str
    file_sha256: str
    selected: int
    baseline: int
    memory_budget: int | None
    parity_data: str
    limits: Mapping[Arithmetic, float]
    results: tuple[CandidateResult, ...]
    fastest_provider: ProviderName | None = None

    @property
    def candidate(self) -> Candidate:
        """The selected candidate."""
        return self.results[self.selected].candidate

    @property
    def lowers_precision(self) -> bool:
        """Whether it computes in another precision than the tuned file, so that probabilities differ."""
        return self.candidate.arithmetic != self.results[self.baseline].candidate.arithmetic

    def describe_precision(self) -> str:
        """How far the probabilities of a choice in lower precision are from the given file's."""
        best = self.results[self.selected]
        precision = best.candidate.arithmetic
        return (
            f"it computes in {precision}, and its probabilities differ from the given file's: by up to "
            f"{best.difference or 0:.1e} on {self.parity_data} (limit {self.limits[precision]:.0e})"
        )

    @property
    def uses_original_file(self) -> bool:
        """Whether the tuned file itself runs."""
        return self.file_sha256 == self.key.model_sha256

    def to_json(self) -> str:
        """Indented JSON, without NaN."""
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "created": self.created,
            "key": asdict(self.key),
            "file_sha256": self.file_sha256,
            "chosen": self.selected,
            "standard": self.baseline,
            "memory_budget": self.memory_budget,
            "fastest_provider": self.fastest_provider,
            "proof": {"material": self.parity_data, "limits": dict(self.limits)},
            "candidates": [_result_to_dict(result) for result in self.results],
        }
        return json.dumps(data, indent=1, allow_nan=False) + "\n"


def choose_fastest(results: Sequence[CandidateResult], memory_budget: int | None) -> int:
    """Index of the candidate with the lowest median among those that passed the parity check and the budget.

    Raises
    ------
    CheckFailedError
        If there is none.
    """
    passed = [n for n, result in enumerate(results) if result.dropped is None]
    if not passed:
        raise CheckFailedError(
            f"None of {len(results)} candidates passed the parity check, so nothing was written. "
            "Look at the reasons above; `atol` permits a larger difference."
        )
    check_memory_budget([results[n] for n in passed], memory_budget)
    fitting = [n for n in passed if not exceeds_memory_budget(results[n], memory_budget)]
    return min(fitting, key=lambda n: results[n].median.value)


def check_memory_budget(results: Sequence[CandidateResult], memory_budget: int | None) -> None:
    """Raise if none of the candidates that passed stays within the budget.

    Raises
    ------
    CheckFailedError
        With what the smallest one adds.
    """
    passed = [result for result in results if result.dropped is None]
    if passed and all(exceeds_memory_budget(result, memory_budget) for result in passed):
        least = min(result.memory or 0 for result in passed)
        raise CheckFailedError(
            f"No candidate stays within {format_bytes(memory_budget or 0)}: the smallest adds {format_bytes(least)}. "
            "Nothing was written. Give a larger `max_memory`."
        )


def exceeds_memory_budget(result: CandidateResult, memory_budget: int | None) -> bool:
    """Whether a candidate adds more memory than is permitted."""
    return memory_budget is not None and (result.memory or 0) > memory_budget


def _result_to_dict(result: CandidateResult) -> dict[str, Any]:
    candidate = result.candidate
    return {
        "level": candidate.level,
        "precision": candidate.precision,
        "target": candidate.target,
        "filtering": candidate.filtering,
        "threads": candidate.threads,
        "options": dict(candidate.options),
        "dropped": result.dropped,
        "difference": result.difference,
        "memory_bytes": result.memory,
        "samples_ms": list(result.samples),
    }
