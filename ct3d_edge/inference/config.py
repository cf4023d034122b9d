"""The settings of inference in one frozen object, and the sessions that follow from them and from a tuning."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakSet

from ct3d_edge.errors import UsageError
from ct3d_edge.modelfile.model_file import ModelFile, default_model_path, load_model_file
from ct3d_edge.providers.names import AUTOMATIC, PROVIDERS, RequestedProvider
from ct3d_edge.providers.options import Options, parse_options
from ct3d_edge.quality_control.check_registry import require_downgradable
from ct3d_edge.session.provider_selection import SessionRequest, find_expected_provider
from ct3d_edge.session.runner import Runner
from ct3d_edge.tuning.cache import ActiveTuning, load_tuning, tuning_path

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class InferenceConfig:
    """Which session is opened for a model, and which checks its scans pass.

    Parameters
    ----------
    provider
        Execution provider; ``"auto"`` takes the first, best first, that does the whole work.
    allow_fallback
        Permit a lesser provider than the one asked for, or one that leaves nodes to the CPU. Records say so.
    threads
        Threads of one run of the network on the CPU; chosen for the work at hand if None.
    provider_options
        ``"key=value"`` texts of the provider asked for; its defaults, or those of the tuning, if left out.
    device_id
        Number of the device, for every provider that has devices to choose from.
    build
        Permit a TensorRT engine to be built here and now if there is none yet.
    use_tuning
        Follow what ``ct3d-edge tune`` chose for the model on this device, if it left a result beside the file.
    gradcam
        Compute the features that Grad-CAM maps need; for files that have that output.
    allow
        Codes of quality checks (docs/inputs.md) that count one step less: a refused scan is predicted with a warning.
    include_phi
        Add the patient's name and ID to the flags of DICOM series.

    Raises
    ------
    UsageError
        If the options are not the provider's, or name none.
    """

    provider: RequestedProvider = "auto"
    allow_fallback: bool = False
    threads: int | None = None
    provider_options: tuple[str, ...] = ()
    device_id: int | None = None
    build: bool = True
    use_tuning: bool = True
    gradcam: bool = False
    allow: frozenset[str] = frozenset()
    include_phi: bool = False

    def __post_init__(self) -> None:
        if self.allow:
            object.__setattr__(self, "allow", require_downgradable(self.allow))
        self.session()

    def session(self) -> SessionRequest:
        """What is asked of a session where no tuning is followed."""
        if self.provider == "auto" and self.provider_options:
            raise UsageError(
                f"The provider option {self.provider_options[0]} belongs to one provider. Name it with `provider`."
            )
        options: Options | None = None
        if self.provider in PROVIDERS:  # "auto" has none; another name is refused when the session is opened
            options = parse_options(self.provider, self.provider_options, self.device_id)
        return SessionRequest(
            self.provider,
            allow_fallback=self.allow_fallback,
            threads=self.threads,
            options=options,
            device_id=self.device_id,
            build=self.build,
            gradcam=self.gradcam,
            hint=True,
        )


@dataclass(frozen=True)
class ResolvedModel:
    """The file that runs in place of the given one, and how.

    Parameters
    ----------
    path
        Of the file: the given one, or the one that the tuning chose.
    request
        What is asked of its session.
    tuned_threads
        Threads that the tuning chose for one scan at a time; a folder divides the cores among its scans.
    """

    path: Path
    request: SessionRequest
    tuned_threads: int | None = None


def resolve_model(path: Path | None, config: InferenceConfig) -> ResolvedModel:
    """Follow the tuning beside a model file, if there is one that holds here; the log says so, or why not.

    Parameters
    ----------
    path
        The model file; the bundled one if None.
    """
    path = default_model_path() if path is None else path
    request = config.session()
    tuning = _find_tuning(path, config) if config.use_tuning else None
    if tuning is None:
        return ResolvedModel(path, request)
    candidate, provider = tuning.choice.candidate, tuning.choice.key.provider
    named = {text.partition("=")[0].strip() for text in config.provider_options}
    chosen = tuple(f"{key}={value}" for key, value in candidate.options if key not in named)
    # Beside auto, a device is for those providers that have devices to choose from.
    device = None if config.provider == "auto" and provider == "cpu" else config.device_id
    texts = (*config.provider_options, *chosen)
    # A plugin is taken only where a tuning found it to be fastest; should it fail here, others do the work.
    plugin = config.provider == "auto" and provider not in AUTOMATIC
    options = parse_options(provider, texts, device) if texts or plugin or config.provider != "auto" else None
    if plugin:
        request = replace(request, provider=provider, allow_fallback=True)
    return ResolvedModel(tuning.file, replace(request, options=options, tuning_sha256=tuning.digest), candidate.threads)


def _find_tuning(path: Path, config: InferenceConfig) -> ActiveTuning | None:
    found = load_tuning(path, config.provider, config.device_id or 0)
    if found is None:
        return None
    if isinstance(found, str):
        name = tuning_path(path, find_expected_provider(config.provider)).name
        LOGGER.info("%s is not used: %s; tune again, or `use_tuning=False`", name, found)
        return None
    choice = found.choice
    name = tuning_path(path, choice.key.provider).name
    LOGGER.info(
        "tuned: %s on %s, from %s; `use_tuning=False` runs the model as given",
        choice.candidate.name,
        choice.key.provider,
        name,
    )
    if choice.lowers_precision:
        LOGGER.info("tuned: %s", choice.describe_precision())
    return found


def open_runner(path: Path | None, config: InferenceConfig, *, stored_voxels: bool = False) -> Runner:
    """Open the session that ``infer`` opens for one scan at a time; of files with preprocessing inside if asked.

    Raises
    ------
    ModelError, ContractError
        If the file cannot be used.
    ProviderError
        If the provider asked for does not do the work here.
    """
    resolved = resolve_model(path, config)
    request = replace(resolved.request, threads=config.threads or resolved.tuned_threads)
    return Runner(load_model_file(resolved.path, stored_voxels=stored_voxels), request)


class ModelSessions:
    """The session of a model file, opened again where other threads or another batch are asked for.

    Parameters
    ----------
    file
        A checked model file.
    request
        What is asked of every session.

    Raises
    ------
    ModelError, ProviderError
        As `Runner` raises.
    """

    def __init__(self, file: ModelFile, request: SessionRequest) -> None:
        self._file, self._request = file, request
        self.current = Runner(file, request)
        """The open session; after `close`, the last one."""
        self._runners = WeakSet([self.current])
        self._closed = False

    def ensure(self, threads: int, batch: int = 1) -> None:
        """Open a session with these settings unless the current one has them. Iterators in use keep theirs."""
        self.require_open()
        report = self.current.run_report
        if (report.threads or threads, report.batch or 1) != (threads, batch):
            self.current = Runner(self._file, replace(self._request, threads=threads, batch=batch))
            self._runners.add(self.current)

    def require_open(self) -> None:
        """Raise a `UsageError` after `close`."""
        if self._closed:
            raise UsageError(f"The model {self._file.path} was closed. Open it again with load_model.")

    def close(self) -> None:
        """Release all sessions and their memory. Closing twice is allowed."""
        self._closed = True
        for runner in self._runners:
            runner.close()
