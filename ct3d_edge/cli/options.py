"""Options that several commands share, how their text becomes values, and the settings of a session from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.checked_text import parse_check_code
from ct3d_edge.cli.click_extras import checked_by
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size, plural
from ct3d_edge.providers.names import RequestedProvider

if TYPE_CHECKING:
    from ct3d_edge.contract import Contract
    from ct3d_edge.inference.config import InferenceConfig

ScansArgument = Annotated[
    list[Path],
    typer.Argument(readable=False, help="Scans (NIfTI, DICOM, MetaImage, NRRD), or folders of them."),
]
ClassFoldersArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder with two folders of scans, one a class.")
]
ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model file; the one that comes with ct3d-edge if left out."),
]
RequiredModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model file (.onnx).  [required]", show_default=False),
]
DeprecatedModelArgument = Annotated[Path | None, typer.Argument(hidden=True)]
"""The model without ``--model``, as earlier versions took it."""

TrainedModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="A .onnx file, a .keras file, or a folder that `train` wrote.  [required]"),
]
ContractModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model file whose contract to follow; else the default one."),
]
ProviderOption = Annotated[
    RequestedProvider,
    typer.Option(
        "--provider",
        "-p",
        metavar="NAME",
        help="Execution provider: tensorrt, nv-tensorrt-rtx, cuda, openvino, cpu, or auto, which is the first of "
        "tensorrt, cuda, cpu that works.",
    ),
]
ProviderOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--provider-option", metavar="KEY=VALUE", help="Set an option of the provider; may be repeated."),
]
DeviceIdOption = Annotated[
    int | None, typer.Option("--device-id", min=0, help="Number of the GPU or other device; 0 if left out.")
]
AllowFallbackOption = Annotated[
    bool,
    typer.Option("--allow-fallback", help="Permit a lesser provider than the one asked for; records say so."),
]
NoBuildOption = Annotated[
    bool, typer.Option("--no-build", help="Stop rather than build a TensorRT engine, which takes minutes.")
]
RunReportOption = Annotated[
    Path | None,
    typer.Option("--run-report", help="Write what really ran where, and on which versions, to this JSON file."),
]
SeriesUidOption = Annotated[
    str | None,
    typer.Option("--series-uid", metavar="UID", help="Of DICOM series, only the one with this SeriesInstanceUID."),
]
DowngradeCheckOption = Annotated[
    list[str] | None,
    typer.Option(
        "--downgrade-check",
        metavar="CODE",
        callback=checked_by(parse_check_code),
        help="Let a flag count one step less (docs/inputs.md); repeatable.",
    ),
]
IncludePhiOption = Annotated[
    bool,
    typer.Option("--include-phi", help="Show the patient's name and ID, which are left out otherwise."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunSplitOption = Annotated[
    Path | None, typer.Option("--split", metavar="FILE", help="Split of DIR; that of RUN if left out.")
]
NonInferiorOption = Annotated[
    bool, typer.Option("--require-non-inferior", help="Exit code 4 unless the AUC is lower by less than --margin.")
]
SkipInvalidOption = Annotated[bool, typer.Option("--skip-invalid", help="Go on without scans that cannot be used.")]
OrientationOption = Annotated[
    str | None,
    typer.Option(help="Axis code to which scans are turned (LAS, RAS, ...), or 'stored' to leave them."),
]
LabelsOption = Annotated[str | None, typer.Option(help="Class names in the order of the output: normal,abnormal")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Scans worked on at the same time; from cores and memory if left out."),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Scans in one run of the network; more than 1 helps on a GPU only.")
]
ScanMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        callback=checked_by(parse_size),
        help="What the scans in flight may take, e.g. 2GB; else half of what is free.",
    ),
]
ScanTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--scan-timeout", min=0.001, help="Seconds after which a scan is given up and named; never if left out."
    ),
]
IgnoreTuningOption = Annotated[
    bool, typer.Option("--ignore-tuning", help="Run the model as given, though `tune` left a choice beside it.")
]


MAX_LISTED_SCANS = 10
"""Scans listed in a message."""


def resolve_model_argument(model: Path | None, argument: Path | None) -> Path | None:
    """The model by its option, or by its place, which is deprecated.

    Raises
    ------
    UsageError
        If both name one.
    """
    from ct3d_edge.cli.terminal import log

    if argument is None:
        return model
    if model is not None:
        raise UsageError(f"--model names {model}, so that {argument} is one argument too many.")
    log(f"deprecated: write --model {argument}; the next version takes no model without --model")
    return argument


def resolve_required_model(model: Path | None, argument: Path | None) -> Path:
    """The model, which must be named.

    Raises
    ------
    UsageError
        If it is not, or twice.
    """
    chosen = resolve_model_argument(model, argument)
    if chosen is None:
        raise UsageError("Name the model: --model FILE.")
    return chosen


def resolve_model_and_folder(model: Path | None, first: Path | None, second: Path | None) -> tuple[Path, Path | None]:
    """Model and folder of scans; two places are the model and the folder as earlier versions took them.

    Raises
    ------
    UsageError
        If no model is named, or there is an argument too many.
    """
    if model is None:
        return resolve_required_model(None, first), second
    resolve_model_argument(model, second)
    return model, first


def resolve_model_path(model: Path | None) -> Path:
    """The model named, or the shipped one."""
    from ct3d_edge.modelfile.model_file import default_model_path

    return default_model_path() if model is None else model


def resolve_single_scan(path: Path, series: str | None) -> Path:
    """The one scan that a path on a command line stands for.

    Raises
    ------
    UsageError
        If a folder holds none or several.
    """
    from ct3d_edge.scan.discovery import find_scans
    from ct3d_edge.scan.loader import is_series

    if not is_series(path):
        return path
    scans = find_scans([path], series)
    if len(scans) > 1:
        named = "\n".join(f"  {scan}" for scan in scans[:MAX_LISTED_SCANS])
        raise UsageError(
            f"{path} holds {plural(len(scans), 'scan')}; name one of them, or a DICOM series (--series-uid):\n{named}"
        )
    return scans[0]


def load_contract(model: Path | None) -> "Contract":
    """The contract of a model file, or the default one."""
    from ct3d_edge.contract import Contract

    if model is None:
        return Contract()
    from ct3d_edge.modelfile.model_file import load_model_file

    return load_model_file(model).contract


def parse_labels(text: str | None) -> tuple[str, ...] | None:
    """Class names from a comma-separated list."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--labels takes two or more different names separated by commas, found {text!r}.")
    return names


def inference_config(
    provider: RequestedProvider,
    allow_fallback: bool = False,
    provider_option: list[str] | None = None,
    device_id: int | None = None,
    *,
    no_build: bool = False,
    no_tuned: bool = False,
    gradcam: bool = False,
    allow: list[str] | None = None,
    include_phi: bool = False,
) -> "InferenceConfig":
    """The settings of inference from options of the command line."""
    from ct3d_edge.inference.config import InferenceConfig

    return InferenceConfig(
        provider,
        allow_fallback=allow_fallback,
        provider_options=tuple(provider_option or ()),
        device_id=device_id,
        build=not no_build,
        use_tuning=not no_tuned,
        gradcam=gradcam,
        allow=frozenset(allow or ()),
        include_phi=include_phi,
    )
