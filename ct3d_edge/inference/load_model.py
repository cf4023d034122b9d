"""Load a model for predictions."""

from collections.abc import Collection, Sequence
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.inference.config import InferenceConfig, resolve_model
from ct3d_edge.inference.model import Model, ScanPath
from ct3d_edge.modelfile.model_file import is_demo_model, load_model_file
from ct3d_edge.providers.names import RequestedProvider
from ct3d_edge.scan.qc_flag import QCFlag

DEMO_MODEL_FLAG = QCFlag(
    "demonstration_model", "warn", "This model learned from drawn chests; of a patient its answer means nothing."
)


def load_model(
    path: ScanPath | None = None,
    provider: RequestedProvider = "auto",
    *,
    allow_fallback: bool = False,
    threads: int | None = None,
    provider_options: Sequence[str] = (),
    device_id: int | None = None,
    build: bool = True,
    use_tuning: bool = True,
    gradcam: bool = False,
    allow: Collection[str] = (),
    include_phi: bool = False,
) -> Model:
    """Open a model file made by ``ct3d-edge export``.

    Parameters
    ----------
    path
        The .onnx file; the model that comes with ct3d-edge if None. Its predictions mean nothing for a patient, and
        each of their records has the flag ``demonstration_model``, also with files made from that model.
    provider, allow_fallback, threads, provider_options, device_id, build, use_tuning, gradcam, allow, include_phi
        See `ct3d_edge.inference.config.InferenceConfig`.

    Raises
    ------
    ModelError, ContractError
        If the file cannot be used.
    ProviderError
        If the provider asked for does not do the work here.
    UsageError
        If there is no such provider, ``threads`` is below 1, or a check cannot be downgraded.
    """
    if isinstance(provider_options, str):
        raise UsageError(f"`provider_options` takes several texts; put {provider_options!r} into a list.")
    config = InferenceConfig(
        provider,
        allow_fallback=allow_fallback,
        threads=threads,
        provider_options=tuple(provider_options),
        device_id=device_id,
        build=build,
        use_tuning=use_tuning,
        gradcam=gradcam,
        allow=frozenset(allow),
        include_phi=include_phi,
    )
    return open_model(None if path is None else Path(path), config)


def open_model(path: Path | None, config: InferenceConfig) -> Model:
    """`load_model` with the settings in one object."""
    resolved = resolve_model(path, config)
    file = load_model_file(resolved.path)
    model_flags = (DEMO_MODEL_FLAG,) if is_demo_model(file) else ()
    return Model(file, resolved.request, config, tuned_threads=resolved.tuned_threads, model_flags=model_flags)
