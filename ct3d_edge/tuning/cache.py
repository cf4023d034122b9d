"""The tuning result of a model: found next to it, parsed, and used only on the machine that it was made on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from ct3d_edge.conversion.precision.tolerances import Arithmetic, Precision
from ct3d_edge.errors import UsageError
from ct3d_edge.json_validation import Count, Duration, Finite, convert, parse_object
from ct3d_edge.providers.names import ProviderName, RequestedProvider
from ct3d_edge.providers.options import parse_options
from ct3d_edge.scan.archive import path_exists
from ct3d_edge.session.provider_selection import find_expected_provider, is_available
from ct3d_edge.tuning.candidate import Candidate, CandidateResult, Filtering, OptimizationLevel, Target
from ct3d_edge.tuning.result import SCHEMA, TuningKey, TuningResult, tuning_key


@dataclass(frozen=True)
class ActiveTuning:
    """A tuning result that applies here.

    Parameters
    ----------
    choice
        The result.
    file
        The model file that runs.
    digest
        SHA-256 of the file of the result.
    """

    choice: TuningResult
    file: Path
    digest: str


def load_tuning(model: Path, requested: RequestedProvider, device_number: int = 0) -> ActiveTuning | str | None:
    """The tuning result of a model; the reason why the one that exists is ignored; None if there is none.

    Parameters
    ----------
    model
        Model file, whose bytes must be those that were tuned.
    requested
        Provider asked for. For ``auto`` the result is that of the one that would be taken, or of the fastest provider
        that it names, if that one's result applies.
    device_number
        Of the GPU or other device.
    """
    provider = find_expected_provider(requested)
    found = _load_own(model, provider, device_number)
    if requested != "auto" or not isinstance(found, ActiveTuning):
        return found
    fastest = found.choice.fastest_provider
    if fastest in (None, provider) or not is_available(fastest):
        return found
    other = _load_own(model, fastest, device_number)
    return other if isinstance(other, ActiveTuning) else found


def _load_own(model: Path, provider: ProviderName, device_number: int) -> ActiveTuning | str | None:
    path = tuning_path(model, provider)
    if not path_exists(path):
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
    except UsageError as error:
        return f"it is damaged: {str(error).removesuffix('.')}"
    return reason or ActiveTuning(choice, file, hashlib.sha256(data).hexdigest())


def tuning_result_path(model: Path, provider: ProviderName = "cpu") -> Path:
    """Path of a model's tuning result for a provider, in the folder of ``model.onnx``.

    ``model.tuned.json`` for the CPU, ``model.tuned-openvino.json`` for ``openvino``, and so on.
    """
    return model.with_suffix(".tuned.json" if provider == "cpu" else f".tuned-{provider}.json")


def tuned_model_path(model: Path, provider: ProviderName = "cpu") -> Path:
    """Path of the selected file if it is not the tuned one: that of the result, with ``.onnx``."""
    return tuning_result_path(model, provider).with_suffix(".onnx")


def tuning_path(model: Path, provider: ProviderName) -> Path:
    """Where the result for a provider is looked for: in its own file, else in that of all, as it was once."""
    own = tuning_result_path(model, provider)
    return own if path_exists(own) else tuning_result_path(model)


def keep_other_provider(model: Path, provider: ProviderName) -> None:
    """Rename the result of another provider that has the name of this one's, as it was once."""
    path = tuning_result_path(model, provider)
    try:
        other = parse_tuning_result(path.read_bytes()).key.provider
    except (OSError, UsageError):
        return  # there is none, or it is damaged
    if other == provider or tuning_result_path(model, other).exists():
        return
    if path.with_suffix(".onnx").exists():
        path.with_suffix(".onnx").replace(tuned_model_path(model, other))
    path.replace(tuning_result_path(model, other))


class _Parity(Struct):
    material: str
    limits: dict[Arithmetic, Finite]


class _Candidate(Struct):
    level: OptimizationLevel
    precision: Precision
    threads: Count
    options: dict[str, str]
    dropped: str | None
    difference: Finite | None
    memory_bytes: int | None
    samples_ms: tuple[Duration, ...]
    target: Target = "cpu"
    filtering: Filtering = "all"


class _TuningFile(Struct, rename={"selected": "chosen", "baseline": "standard", "parity": "proof"}):
    """The JSON form, written by `TuningResult.to_json`."""

    created: str
    key: TuningKey
    file_sha256: str
    selected: int
    baseline: int
    memory_budget: int | None
    parity: _Parity
    candidates: tuple[_Candidate, ...]
    fastest_provider: ProviderName | None = None


def parse_tuning_result(data: bytes) -> TuningResult:
    """The result from the bytes of its file.

    Raises
    ------
    UsageError
        If it is not one, in every detail.
    """
    fields = parse_object(data, "the file", UsageError)
    if fields.get("schema") != SCHEMA:
        raise UsageError(f"It is not a tuning result of version {SCHEMA}.")
    file = convert(fields, _TuningFile, "the file", UsageError)
    for name, index in (("chosen", file.selected), ("standard", file.baseline)):
        if not 0 <= index < len(file.candidates):
            raise UsageError(f"`{name}` is {index}, but there are {len(file.candidates)} candidates.")
    selected = file.candidates[file.selected]
    if selected.dropped is not None or not selected.samples_ms:
        raise UsageError("The selected candidate was dropped or never timed.")
    arithmetic = _candidate_result(selected, file.key.provider).candidate.arithmetic
    if arithmetic not in file.parity.limits:
        raise UsageError(f"It computes in {arithmetic}, for which its parity check has no limit.")
    return TuningResult(
        file.key,
        file.created,
        file.file_sha256,
        file.selected,
        file.baseline,
        file.memory_budget,
        file.parity.material,
        file.parity.limits,
        tuple(_candidate_result(candidate, file.key.provider) for candidate in file.candidates),
        file.fastest_provider,
    )


def _candidate_result(read: _Candidate, provider: ProviderName) -> CandidateResult:
    parse_options(provider, tuple(f"{name}={value}" for name, value in read.options.items()))  # raises if unknown
    options = tuple(read.options.items())
    candidate = Candidate(read.level, read.threads, options, read.precision, read.target, read.filtering)
    return CandidateResult(candidate, read.dropped, read.difference, read.memory_bytes, read.samples_ms)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
