"""From what is asked for to an open session: providers are tried in order until one does all of the work."""

from dataclasses import dataclass

import onnxruntime as ort

from ct3d_edge.errors import ModelError, ProviderError, UsageError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers import availability
from ct3d_edge.providers.availability import Provider
from ct3d_edge.providers.names import ProviderName, RequestedProvider
from ct3d_edge.providers.options import OPTIONS, Options, default_options
from ct3d_edge.providers.tensorrt_engines import EngineStore
from ct3d_edge.session.run_report import EngineUsed, RunReport, RuntimePlatform, detect_platform, is_tf32_allowed
from ct3d_edge.session.session import SessionConfig, SessionRefused, node_placement, open_session
from ct3d_edge.session.tensorrt import get_or_build_engine, make_engine_builder, make_engine_key, with_engine_cache
from ct3d_edge.system.machine import count_usable_cores

FALLBACK_HINT = " To accept a lesser provider, add `allow_fallback=True`."


@dataclass(frozen=True)
class SessionRequest:
    """Everything that is asked of a session.

    Parameters
    ----------
    provider
        Execution provider; ``"auto"`` takes the first, best first, that does the whole work.
    allow_fallback
        Permit a lesser provider, or one that leaves nodes to the CPU. The run report says so.
    threads
        Threads within an operator on the CPU; as many as this process may use cores if None.
    options
        Of the provider, from ``parse_options``; its defaults if None. Beside ``"auto"`` only those of a tuning.
    device_id
        Number of the device, for every provider that has devices to choose from.
    batch
        Volumes in one run on a GPU, whose buffers are allocated once for it.
    build
        Permit a TensorRT engine to be built here and now if there is none yet; ``"auto"`` never does.
    gradcam
        Give the features too from which Grad-CAM maps are computed.
    tuning_sha256
        SHA-256 of the tuning that model, threads and options follow; for the run report.
    profile
        See ``SessionConfig``.
    hint
        End an error with `FALLBACK_HINT`: for callers that offer that argument.

    Raises
    ------
    UsageError
        A number of threads or volumes below one, or options without the provider they belong to.
    """

    provider: RequestedProvider = "auto"
    allow_fallback: bool = False
    threads: int | None = None
    options: Options | None = None
    device_id: int | None = None
    batch: int = 1
    build: bool = True
    gradcam: bool = False
    tuning_sha256: str | None = None
    profile: str | None = None
    hint: bool = False

    def __post_init__(self) -> None:
        for what, number in (("threads", self.threads), ("volumes in a batch", self.batch)):
            if number is not None and number < 1:
                raise UsageError(f"The number of {what} must be at least 1, found {number}.")
        owner = None if self.provider == "auto" else OPTIONS.get(self.provider)
        if self.tuning_sha256 and self.provider == "auto":
            return
        if self.options is not None and (owner is None or not isinstance(self.options, owner)):
            kind = type(self.options).__name__
            raise UsageError(f"{kind} do not belong to provider {self.provider}. Name the provider they are for.")

    @property
    def engine_build_allowed(self) -> bool:
        """Whether an engine may be built in passing: only for somebody who asked for TensorRT."""
        return self.build and self.provider == "tensorrt"

    def options_for(self, candidate: Provider) -> Options:
        """What is set for a provider: what was asked for if it is the one asked for, else its defaults."""
        if isinstance(self.options, OPTIONS[candidate.name]):
            return self.options
        return default_options(candidate.name, self.device_id)


@dataclass(frozen=True, eq=False)
class OpenedSession:
    """An open session, and how it came about.

    Parameters
    ----------
    session, config
        The session, and what it was opened with.
    platform
        What it stands on.
    nodes
        ``(provider, number of nodes)``.
    passed_over
        ``(provider, reason)`` of those tried before.
    engine
        TensorRT's, if it is one.
    """

    session: ort.InferenceSession
    config: SessionConfig
    platform: RuntimePlatform
    nodes: tuple[tuple[str, int], ...]
    passed_over: tuple[tuple[str, str], ...]
    engine: EngineUsed | None


def find_expected_provider(requested: RequestedProvider) -> ProviderName:
    """The first of the providers to be tried that finds its libraries and a device; no session is opened.

    Raises
    ------
    UsageError
        If there is no provider of that name.
    """
    tried = availability.list_candidate_providers(requested, allow_fallback=False)
    return next((entry.name for entry in tried if availability.find_provider_issue(entry) is None), tried[-1].name)


def is_available(name: ProviderName) -> bool:
    """Whether a provider finds its libraries and a device; no session is opened."""
    (entry,) = availability.list_candidate_providers(name, allow_fallback=False)
    return availability.find_provider_issue(entry) is None


def get_device_and_versions(
    name: ProviderName, device_number: int = 0
) -> tuple[str | None, tuple[tuple[str, str | None], ...]]:
    """The GPU's name, None without one, and the versions that a session on a provider would stand on."""
    platform = detect_platform(name, device_number)
    return platform.gpu.name if platform.gpu else None, platform.versions


def select_and_open(model: ModelFile, request: SessionRequest) -> OpenedSession:
    """Try providers in order until one does the work; collect why the others did not.

    Raises
    ------
    ProviderError
        If none does.
    ModelError
        If ONNX Runtime refuses the graph even on the CPU.
    """
    passed_over: list[tuple[str, str]] = []
    for candidate in availability.list_candidate_providers(request.provider, allow_fallback=request.allow_fallback):
        try:
            _check_provider_allowed(model, candidate)
            availability.require_available(candidate)
            return _open_on(candidate, model, request, tuple(passed_over))
        except ProviderError as error:
            passed_over.append((candidate.name, str(error)))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over)
    raise ProviderError(
        f"Provider {request.provider} cannot do the work here. {reasons}. "
        f"This onnxruntime has: {', '.join(availability.compiled_in())}.{FALLBACK_HINT if request.hint else ''}"
    )


def _open_on(
    candidate: Provider, model: ModelFile, request: SessionRequest, passed_over: tuple[tuple[str, str], ...]
) -> OpenedSession:
    config = _make_config(candidate, model, request)
    platform = detect_platform(candidate.name, config.options.device_number)
    try:
        if candidate.name == "tensorrt":
            session, engine = _open_tensorrt(model, config, platform, request)
        else:
            session, engine = open_session(model.data, config), None
    except SessionRefused as error:
        if candidate.name == "cpu":
            raise ModelError(f"ONNX Runtime cannot run {model.path}: {error}") from error
        raise ProviderError(f"it refused the model ({error})") from error
    nodes = node_placement(session, candidate, allow_fallback=request.allow_fallback)
    return OpenedSession(session, config, platform, tuple(nodes.items()), passed_over, engine)


def _check_provider_allowed(model: ModelFile, candidate: Provider) -> None:
    if reason := model.incompatibility_reason(candidate.name):
        raise ProviderError(f"{model.path.name} is not for it: as its export found, it {reason}")


def _make_config(candidate: Provider, model: ModelFile, request: SessionRequest) -> SessionConfig:
    lesser = [other for other in availability.fallbacks_of(candidate) if request.allow_fallback or other.name == "cpu"]
    asked = request.options_for(candidate)
    threads = asked.threads or request.threads or count_usable_cores()
    options = asked.with_threads(threads)
    return SessionConfig(
        candidate,
        options,
        [(other, request.options_for(other)) for other in lesser],
        options.threads or threads,
        fixed_dimensions={model.batch_axis: request.batch} if options.gpu and model.batch_axis else {},
        profile=request.profile,
    )


def _open_tensorrt(
    model: ModelFile, config: SessionConfig, platform: RuntimePlatform, request: SessionRequest
) -> tuple[ort.InferenceSession, EngineUsed]:
    """A session with the engine that was built for exactly this, built now if that is permitted."""
    store = EngineStore()
    batch = request.batch if model.batch_axis else 1
    key = make_engine_key(model, config, batch, platform)
    timing = store.timing(key)
    make = make_engine_builder(model, config, batch, timing)
    stored, built = get_or_build_engine(store, key, make, build=request.engine_build_allowed)
    session = open_session(model.data, with_engine_cache(config, stored.folder, timing))
    store.check_unchanged(stored)
    return session, EngineUsed(key.digest, built, stored.seconds)


def make_run_report(model: ModelFile, request: SessionRequest, opened: OpenedSession, batch: int | None) -> RunReport:
    """What runs where, for the record; ``batch`` is that of the buffers, None without."""
    config, platform = opened.config, opened.platform
    return RunReport(
        requested=request.provider,
        actual=config.candidate.name,
        passed_over=opened.passed_over,
        nodes=opened.nodes,
        options=tuple(config.options.as_dict().items()),
        threads=config.threads if config.options.supports_threads or "cpu" in dict(opened.nodes) else None,
        batch=batch,
        versions=platform.versions,
        gpu=platform.gpu.name if platform.gpu else None,
        weights=model.weights,
        arithmetic=config.options.arithmetic(model.arithmetic),
        interface=model.interface,
        tf32=is_tf32_allowed(config.candidate.name, config.options, platform.gpu),
        engine=opened.engine,
        tuned=request.tuning_sha256 is not None,
        choice=request.tuning_sha256,
        model_sha256=model.sha256,
        contract_sha256=model.contract.sha256,
    )
