"""Opening a model file for scans."""

from collections.abc import Callable, Collection
from pathlib import Path

from ct3d_edge.inference.model import Model, ScanPath
from ct3d_edge.modelfile.bundled_model import default_model_path, is_demo_model
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.names import RequestedProvider
from ct3d_edge.providers.options import Options
from ct3d_edge.scan.qc_flag import QCFlag

DEMONSTRATION = QCFlag(
    "demonstration_model", "warn", "This model learned from drawn chests; of a patient its answer means nothing."
)


def load_model(
    path: ScanPath | None = None,
    provider: RequestedProvider = "auto",
    *,
    allow_fallback: bool = False,
    threads: int | None = None,
    options: Options | None = None,
    device_id: int | None = None,
    build: bool = True,
    on_build: Callable[[str], None] = lambda _: None,
    tuned_file: ScanPath | None = None,
    choice: str | None = None,
    allow: Collection[str] = (),
    include_phi: bool = False,
    explain: bool = False,
) -> Model:
    """Open a model file that ``ct3d-edge export`` made.

    Parameters
    ----------
    path
        The .onnx file; the model that comes with ct3d-edge if None. Its answers mean nothing for a patient, and every
        record of them says so (``demonstration_model``), also of files that were made from it.
    provider
        Execution provider: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or ``"auto"`` for the first of them, best first,
        that does the whole work.
    allow_fallback
        Permit a lesser provider than the one asked for. Records say so.
    threads
        Threads of one run of the network on the CPU; chosen for the work at hand if None.
    options, device_id, build, on_build
        See `ct3d_edge.runtime.Runner`; the provider's defaults if left out.
    tuned_file, choice
        What `ct3d_edge.tuning.look_up` found for ``path``: the file that runs in its place, and the choice's hash.
    allow
        Codes of findings (docs/inputs.md) that count one step less: what is refused otherwise is answered with a
        warning.
    include_phi
        Add the patient's name and ID, which nothing shows otherwise, to the findings of DICOM series.
    explain
        Keep what `Model.explanation` needs; for files that were exported with ``--with-gradcam-output``.

    Raises
    ------
    ModelError, ContractError
        If the file cannot be used.
    ProviderError
        If the provider asked for does not do the work here.
    UsageError
        If there is no such provider, ``threads`` is below 1, or a code cannot be allowed.
    """
    file = load_model_file(Path(tuned_file or (default_model_path() if path is None else path)))
    notes = (DEMONSTRATION,) if is_demo_model(file) else ()
    return Model(
        file,
        provider,
        allow_fallback=allow_fallback,
        threads=threads,
        options=options,
        device_id=device_id,
        build=build,
        on_build=on_build,
        choice=choice,
        notes=notes,
        allow=allow,
        include_phi=include_phi,
        explain=explain,
    )
