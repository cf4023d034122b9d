"""From what is asked for to an open session: providers are tried in order until one does all of the work."""

from collections.abc import Callable
from dataclasses import dataclass, field

import onnxruntime as ort

from ct3d_edge.errors import ModelError, ProviderError, UsageError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers import availability
from ct3d_edge.providers.availability import Provider
from ct3d_edge.providers.names import ProviderName, RequestedProvider
from ct3d_edge.providers.options import OPTIONS, Options, default_options
from ct3d_edge.providers.tensorrt_engines import EngineStore
from ct3d_edge.providers.versions import Platform, platform_of, tf32_allowed
from ct3d_edge.session.run_report import Engine, Receipt
from ct3d_edge.session.session import Refusal, Setup, open_session, placement
from ct3d_edge.session.tensorrt import build_into, engine_key, ready_engine, with_engine
from ct3d_edge.system.machine import usable_cores

FALLBACK_HINT = "To accept a lesser provider, add `allow_fallback=True`."


@dataclass(frozen=True)
class Wish:
    """What is asked for; see ``Runner``, whose arguments these are, and ``Setup`` for ``profile``.

    Options of a choice may stand beside ``auto``: they count where their provider does the work.

    Raises
    ------
    UsageError
        A number of threads or volumes below one, or options without the provider they belong to.
    """

    requested: RequestedProvider
    allow_fallback: bool = False
    threads: int | None = None
    options: Options | None = None
    device_id: int | None = None
    batch: int = 1
    build: bool = True
    on_build: Callable[[str], None] = field(default=lambda _: None, compare=False)
    profile: str | None = None
    choice: str | None = None

    def __post_init__(self) -> None:
        for what, number in (("threads", self.threads), ("volumes in a batch", self.batch)):
            if number is not None and number < 1:
                raise UsageError(f"The number of {what} must be at least 1, found {number}.")
        owner = None if self.requested == "auto" else OPTIONS.get(self.requested)
        if self.choice and self.requested == "auto":
            return
        if self.options is not None and (owner is None or not isinstance(self.options, owner)):
            kind = type(self.options).__name__
            raise UsageError(f"{kind} do not belong to provider {self.requested}. Name the provider they are for.")

    @property
    def may_build(self) -> bool:
        """Whether an engine may be built in passing: only for somebody who asked for TensorRT."""
        return self.build and self.requested == "tensorrt"

    def options_of(self, candidate: Provider) -> Options:
        """What is set for a provider: what was asked for if it is the one asked for, else its defaults."""
        if isinstance(self.options, OPTIONS[candidate.name]):
            return self.options
        return default_options(candidate.name, self.device_id)


@dataclass(frozen=True, eq=False)
class Opened:
    """An open session, and how it came about.

    Parameters
    ----------
    session, setup
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
    setup: Setup
    platform: Platform
    nodes: tuple[tuple[str, int], ...]
    passed_over: tuple[tuple[str, str], ...]
    engine: Engine | None


def expected_provider(requested: RequestedProvider) -> ProviderName:
    """The first of the providers to be tried that finds its libraries and a device; no session is opened.

    Raises
    ------
    UsageError
        If there is no provider of that name.
    """
    tried = availability.candidates(requested, allow_fallback=False)
    return next((entry.name for entry in tried if availability.find_obstacle(entry) is None), tried[-1].name)


def device_and_versions(
    name: ProviderName, device_number: int = 0
) -> tuple[str | None, tuple[tuple[str, str | None], ...]]:
    """The GPU's name, None without one, and the versions that a session on a provider would stand on."""
    platform = platform_of(name, device_number)
    return platform.gpu.name if platform.gpu else None, platform.versions


def open_for(model: ModelFile, wish: Wish) -> Opened:
    """Try providers in order until one does the work; collect why the others did not.

    Raises
    ------
    ProviderError
        If none does.
    ModelError
        If ONNX Runtime refuses the graph even on the CPU.
    """
    passed_over: list[tuple[str, str]] = []
    for candidate in availability.candidates(wish.requested, allow_fallback=wish.allow_fallback):
        try:
            _require_fit(model, candidate)
            availability.check(candidate)
            return _open_on(candidate, model, wish, tuple(passed_over))
        except ProviderError as error:
            passed_over.append((candidate.name, str(error)))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over)
    raise ProviderError(
        f"Provider {wish.requested} cannot do the work here. {reasons}. "
        f"This onnxruntime has: {', '.join(availability.compiled_in())}. {FALLBACK_HINT}"
    )


def _open_on(candidate: Provider, model: ModelFile, wish: Wish, passed_over: tuple[tuple[str, str], ...]) -> Opened:
    setup = _setup(candidate, model, wish)
    platform = platform_of(candidate.name, setup.options.device_number)
    try:
        if candidate.name == "tensorrt":
            session, engine = _open_tensorrt(model, setup, platform, wish)
        else:
            session, engine = open_session(model.data, setup), None
    except Refusal as error:
        if candidate.name == "cpu":
            raise ModelError(f"ONNX Runtime cannot run {model.path}: {error}") from error
        raise ProviderError(f"it refused the model ({error})") from error
    nodes = placement(session, candidate, allow_fallback=wish.allow_fallback)
    return Opened(session, setup, platform, tuple(nodes.items()), passed_over, engine)


def _require_fit(model: ModelFile, candidate: Provider) -> None:
    if reason := model.why_not_for(candidate.name):
        raise ProviderError(f"{model.path.name} is not for it: as its export found, it {reason}")


def _setup(candidate: Provider, model: ModelFile, wish: Wish) -> Setup:
    lesser = [other for other in availability.lesser_than(candidate) if wish.allow_fallback or other.name == "cpu"]
    asked = wish.options_of(candidate)
    threads = asked.threads or wish.threads or usable_cores()
    options = asked.with_threads(threads)
    return Setup(
        candidate,
        options,
        [(other, wish.options_of(other)) for other in lesser],
        options.threads or threads,
        fixed={model.batch_axis: wish.batch} if options.gpu and model.batch_axis else {},
        profile=wish.profile,
    )


def _open_tensorrt(
    model: ModelFile, setup: Setup, platform: Platform, wish: Wish
) -> tuple[ort.InferenceSession, Engine]:
    """A session with the engine that was built for exactly this, built now if that is permitted."""
    store = EngineStore()
    batch = wish.batch if model.batch_axis else 1
    key = engine_key(model, setup, batch, platform)
    timing = store.timing(key)
    make = build_into(model, setup, batch, timing)
    stored, built = ready_engine(store, key, make, build=wish.may_build, on_build=wish.on_build)
    session = open_session(model.data, with_engine(setup, stored.folder, timing))
    store.confirm(stored)
    return session, Engine(key.digest, built, stored.seconds)


def receipt_of(
    model: ModelFile, requested: RequestedProvider, opened: Opened, batch: int | None, choice: str | None
) -> Receipt:
    """What runs where, for the record; ``batch`` and ``choice`` as in `Runner`."""
    setup, platform = opened.setup, opened.platform
    return Receipt(
        requested=requested,
        actual=setup.candidate.name,
        passed_over=opened.passed_over,
        nodes=opened.nodes,
        options=tuple(setup.options.told().items()),
        threads=setup.threads if setup.options.takes_threads or "cpu" in dict(opened.nodes) else None,
        batch=batch,
        versions=platform.versions,
        gpu=platform.gpu.name if platform.gpu else None,
        weights=model.weights,
        arithmetic=setup.options.arithmetic(model.arithmetic),
        interface=model.interface,
        tf32=tf32_allowed(setup.candidate.name, setup.options, platform.gpu),
        engine=opened.engine,
        tuned=choice is not None,
        choice=choice,
        model_sha256=model.sha256,
        contract_sha256=model.contract.sha256,
    )
