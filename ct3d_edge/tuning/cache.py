"""Is there a choice beside a model, and does it hold here? Whatever is wrong with it becomes a sentence."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct3d_edge.contract import reject_non_finite_constant
from ct3d_edge.conversion.precision import PRECISIONS, Precision
from ct3d_edge.errors import UsageError
from ct3d_edge.providers.names import PROVIDERS, ProviderName, RequestedProvider
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import find_expected_provider
from ct3d_edge.tuning.candidate import LEVELS, Candidate, CandidateResult
from ct3d_edge.tuning.result import SCHEMA, TuningKey, TuningResult, tuned_model_path, tuning_key, tuning_result_path


@dataclass(frozen=True)
class ActiveTuning:
    """A choice that holds here.

    Parameters
    ----------
    choice
        What was chosen.
    file
        The model file that runs.
    digest
        SHA-256 of the choice's file.
    """

    choice: TuningResult
    file: Path
    digest: str


def load_tuning(model: Path, requested: RequestedProvider, device_number: int = 0) -> ActiveTuning | str | None:
    """The choice beside a model; the reason why the one that is there is left aside; None if there is none.

    Parameters
    ----------
    model
        The given file, whose bytes must be those that were tuned.
    requested
        Provider asked for. For ``auto``, the choice must be of the one that would be taken.
    device_number
        Of the GPU or other device.
    """
    provider = find_expected_provider(requested)
    path = tuning_path(model, provider)
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
        choice = parse_tuning_result(data)
        if path != tuning_result_path(model, provider) and choice.key.provider != provider:
            return None
        here = tuning_key(_sha256(model), provider, device_number)
        reason = choice.key.mismatch_reason(here)
        file = model if choice.uses_original_file else path.with_suffix(".onnx")
        if reason is None and _sha256(file) != choice.file_sha256:
            reason = f"{file.name} is not the file that was chosen"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except (ValueError, RecursionError, UsageError) as error:
        return f"it is damaged: {error}"
    return reason or ActiveTuning(choice, file, hashlib.sha256(data).hexdigest())


def tuning_path(model: Path, provider: ProviderName) -> Path:
    """Where the choice for a provider is looked for: in its own file, else in that of all, as it was once."""
    own = tuning_result_path(model, provider)
    return own if own.exists() else tuning_result_path(model)


def keep_other_provider(model: Path, provider: ProviderName) -> None:
    """Give a choice of another provider that lies where this one's goes, as it was once, its own name."""
    path = tuning_result_path(model, provider)
    try:
        other = parse_tuning_result(path.read_bytes()).key.provider
    except (OSError, ValueError, RecursionError, UsageError):
        return  # there is none, or it is damaged: nothing that could be kept
    if other == provider or tuning_result_path(model, other).exists():
        return
    if path.with_suffix(".onnx").exists():
        path.with_suffix(".onnx").replace(tuned_model_path(model, other))
    path.replace(tuning_result_path(model, other))


def parse_tuning_result(data: bytes) -> TuningResult:
    """A choice from the bytes of its file.

    Raises
    ------
    ValueError, UsageError
        If it is not one, in every detail.
    """
    told = json.loads(data.decode("utf-8"), parse_constant=reject_non_finite_constant)
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ValueError(f"not a choice of version {SCHEMA}")
    key, parity = _parse_key(_require_field(told, "key", dict)), _require_field(told, "proof", dict)
    results = tuple(_parse_result(entry, key) for entry in _require_field(told, "candidates", list))
    choice = TuningResult(
        key,
        _require_field(told, "created", str),
        _require_field(told, "file_sha256", str),
        _parse_index(told, "chosen", results),
        _parse_index(told, "standard", results),
        _optional_field(told, "memory_budget", int),
        _require_field(parity, "material", str),
        _parse_limits(_require_field(parity, "limits", dict)),
        results,
    )
    if choice.results[choice.selected].dropped is not None or not choice.results[choice.selected].samples:
        raise ValueError("what is chosen was dropped or never timed")
    if choice.candidate.precision not in choice.limits:
        raise ValueError(f"it computes in {choice.candidate.precision}, for which its proof has no limit")
    return choice


def _parse_key(told: dict[str, Any]) -> TuningKey:
    provider = next((name for name in PROVIDERS if name == told.get("provider")), None)
    if provider is None:
        raise ValueError(f"there is no provider {told.get('provider')!r}")
    versions = _require_field(told, "versions", dict)
    return TuningKey(
        _require_field(told, "model_sha256", str),
        provider,
        _require_field(told, "processor", str),
        _require_field(told, "cores", int),
        _optional_field(told, "gpu", str),
        tuple((name, _require_field(versions, name, str)) for name in versions),
    )


def _parse_limits(told: dict[str, Any]) -> dict[Precision, float]:
    unknown = [name for name in told if name not in PRECISIONS]
    if unknown:
        raise ValueError(f"there is no precision {unknown[0]!r}")
    return {name: float(_require_field(told, name, float, int)) for name in PRECISIONS if name in told}


def _parse_result(told: Any, key: TuningKey) -> CandidateResult:
    if not isinstance(told, dict):
        raise ValueError("a candidate is not an object")
    level = next((name for name in LEVELS if name == told.get("level")), None)
    precision = next((name for name in PRECISIONS if name == told.get("precision")), None)
    threads, options = _require_field(told, "threads", int), _require_field(told, "options", dict)
    if level is None or precision is None or threads < 1:
        raise ValueError(
            f"a candidate has level {told.get('level')!r}, precision {told.get('precision')!r} and {threads} threads"
        )
    chosen = tuple((name, _require_field(options, name, str)) for name in options)
    parse_options(key.provider, tuple(f"{name}={value}" for name, value in chosen))  # refuses what there is not
    samples = _require_field(told, "samples_ms", list)
    if not all(type(sample) in (int, float) and math.isfinite(sample) and sample >= 0 for sample in samples):
        raise ValueError("a sample is not a duration")
    return CandidateResult(
        Candidate(level, threads, chosen, precision),
        _optional_field(told, "dropped", str),
        _optional_field(told, "difference", float, int),
        _optional_field(told, "memory_bytes", int),
        tuple(map(float, samples)),
    )


def _parse_index(told: dict[str, Any], name: str, results: Sequence[CandidateResult]) -> int:
    position: int = _require_field(told, name, int)
    if not 0 <= position < len(results):
        raise ValueError(f"{name!r} names none of its {len(results)} candidates")
    return position


def _require_field(told: dict[str, Any], name: str, *kinds: type) -> Any:
    """A value of exactly one of these types: ``True`` is no number here."""
    if type(told.get(name)) not in kinds:
        raise ValueError(f"{name!r} is missing or not {' or '.join(kind.__name__ for kind in kinds)}")
    return told[name]


def _optional_field(told: dict[str, Any], name: str, *kinds: type) -> Any:
    return None if name in told and told[name] is None else _require_field(told, name, *kinds)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
