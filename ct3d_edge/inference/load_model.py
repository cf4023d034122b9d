"""Load a model for predictions."""

from collections.abc import Collection, Sequence
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import Model, open_model
from ct3d_edge.inference.prepare import ScanPath
from ct3d_edge.providers.names import RequestedProvider


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
