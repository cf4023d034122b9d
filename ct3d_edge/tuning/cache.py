"""Is there a choice beside a model, and does it hold here? Whatever is wrong with it becomes a sentence."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct3d_edge.contract import refuse_constant
from ct3d_edge.conversion.precision import PRECISIONS, Precision
from ct3d_edge.errors import UsageError
from ct3d_edge.providers.names import PROVIDERS, ProviderName, RequestedProvider
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import expected_provider
from ct3d_edge.tuning.candidate import LEVELS, Candidate, Result
from ct3d_edge.tuning.result import SCHEMA, Key, TunedChoice, choice_path, key_of, tuned_model_path


@dataclass(frozen=True)
class InUse:
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

    choice: TunedChoice
    file: Path
    digest: str


def look_up(model: Path, requested: RequestedProvider, device_number: int = 0) -> InUse | str | None:
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
    provider = expected_provider(requested)
    path = kept_at(model, provider)
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
        choice = parse_choice(data)
        if path != choice_path(model, provider) and choice.key.provider != provider:
            return None
        here = key_of(_sha256(model), provider, device_number)
        reason = choice.key.why_not(here)
        file = model if choice.of_the_given_file else path.with_suffix(".onnx")
        if reason is None and _sha256(file) != choice.file_sha256:
            reason = f"{file.name} is not the file that was chosen"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except (ValueError, RecursionError, UsageError) as error:
        return f"it is damaged: {error}"
    return reason or InUse(choice, file, hashlib.sha256(data).hexdigest())


def kept_at(model: Path, provider: ProviderName) -> Path:
    """Where the choice for a provider is looked for: in its own file, else in that of all, as it was once."""
    own = choice_path(model, provider)
    return own if own.exists() else choice_path(model)


def make_room(model: Path, provider: ProviderName) -> None:
    """Give a choice of another provider that lies where this one's goes, as it was once, its own name."""
    path = choice_path(model, provider)
    try:
        other = parse_choice(path.read_bytes()).key.provider
    except (OSError, ValueError, RecursionError, UsageError):
        return  # there is none, or it is damaged: nothing that could be kept
    if other == provider or choice_path(model, other).exists():
        return
    if path.with_suffix(".onnx").exists():
        path.with_suffix(".onnx").replace(tuned_model_path(model, other))
    path.replace(choice_path(model, other))


def parse_choice(data: bytes) -> TunedChoice:
    """A choice from the bytes of its file.

    Raises
    ------
    ValueError, UsageError
        If it is not one, in every detail.
    """
    told = json.loads(data.decode("utf-8"), parse_constant=refuse_constant)
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ValueError(f"not a choice of version {SCHEMA}")
    key, proof = _key(_take(told, "key", dict)), _take(told, "proof", dict)
    results = tuple(_result(entry, key) for entry in _take(told, "candidates", list))
    choice = TunedChoice(
        key,
        _take(told, "created", str),
        _take(told, "file_sha256", str),
        _position(told, "chosen", results),
        _position(told, "standard", results),
        _optional(told, "memory_budget", int),
        _take(proof, "material", str),
        _limits(_take(proof, "limits", dict)),
        results,
    )
    if choice.results[choice.chosen].dropped is not None or not choice.results[choice.chosen].samples:
        raise ValueError("what is chosen was dropped or never timed")
    if choice.candidate.precision not in choice.limits:
        raise ValueError(f"it computes in {choice.candidate.precision}, for which its proof has no limit")
    return choice


def _key(told: dict[str, Any]) -> Key:
    provider = next((name for name in PROVIDERS if name == told.get("provider")), None)
    if provider is None:
        raise ValueError(f"there is no provider {told.get('provider')!r}")
    versions = _take(told, "versions", dict)
    return Key(
        _take(told, "model_sha256", str),
        provider,
        _take(told, "processor", str),
        _take(told, "cores", int),
        _optional(told, "gpu", str),
        tuple((name, _take(versions, name, str)) for name in versions),
    )


def _limits(told: dict[str, Any]) -> dict[Precision, float]:
    unknown = [name for name in told if name not in PRECISIONS]
    if unknown:
        raise ValueError(f"there is no precision {unknown[0]!r}")
    return {name: float(_take(told, name, float, int)) for name in PRECISIONS if name in told}


def _result(told: Any, key: Key) -> Result:
    if not isinstance(told, dict):
        raise ValueError("a candidate is not an object")
    level = next((name for name in LEVELS if name == told.get("level")), None)
    precision = next((name for name in PRECISIONS if name == told.get("precision")), None)
    threads, options = _take(told, "threads", int), _take(told, "options", dict)
    if level is None or precision is None or threads < 1:
        raise ValueError(
            f"a candidate has level {told.get('level')!r}, precision {told.get('precision')!r} and {threads} threads"
        )
    chosen = tuple((name, _take(options, name, str)) for name in options)
    parse_options(key.provider, tuple(f"{name}={value}" for name, value in chosen))  # refuses what there is not
    samples = _take(told, "samples_ms", list)
    if not all(type(sample) in (int, float) and math.isfinite(sample) and sample >= 0 for sample in samples):
        raise ValueError("a sample is not a duration")
    return Result(
        Candidate(level, threads, chosen, precision),
        _optional(told, "dropped", str),
        _optional(told, "difference", float, int),
        _optional(told, "memory_bytes", int),
        tuple(map(float, samples)),
    )


def _position(told: dict[str, Any], name: str, results: Sequence[Result]) -> int:
    position: int = _take(told, name, int)
    if not 0 <= position < len(results):
        raise ValueError(f"{name!r} names none of its {len(results)} candidates")
    return position


def _take(told: dict[str, Any], name: str, *kinds: type) -> Any:
    """A value of exactly one of these types: ``True`` is no number here."""
    if type(told.get(name)) not in kinds:
        raise ValueError(f"{name!r} is missing or not {' or '.join(kind.__name__ for kind in kinds)}")
    return told[name]


def _optional(told: dict[str, Any], name: str, *kinds: type) -> Any:
    return None if name in told and told[name] is None else _take(told, name, *kinds)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
