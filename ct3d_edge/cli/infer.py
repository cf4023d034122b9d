"""``ct3d-edge infer``: scans in, probabilities out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.infer_options import (
    AddressOption,
    CpusPerWorkerOption,
    DicomPmOption,
    DicomScOption,
    DicomSrOption,
    EngineOption,
    FormatOption,
    GradcamDirOption,
    InferRun,
    MontageOption,
    OutOption,
    OutputFolders,
    OutputFormat,
    ReportOption,
    ResumeOption,
    ShardOption,
)
from ct3d_edge.cli.options import (
    AllowFallbackOption,
    BatchSizeOption,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    IncludePhiOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    RunReportOption,
    ScanMemoryOption,
    ScanTimeoutOption,
    SeriesUidOption,
    WorkersOption,
    inference_config,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size
from ct3d_edge.system.atomic_write import require_writable

if TYPE_CHECKING:
    from ct3d_edge.results.shards import Shard
    from ct3d_edge.scan.discovery import DiscoveredScans


def infer(
    paths: Annotated[
        list[Path],
        typer.Argument(readable=False, help="Scans (NIfTI, DICOM, MetaImage, NRRD), or folders of them."),
    ],
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    no_tuned: IgnoreTuningOption = False,
    run_report: RunReportOption = None,
    out: OutOption = None,
    format_: FormatOption = OutputFormat.TABLE,
    resume: ResumeOption = False,
    shard: ShardOption = None,
    montage: MontageOption = None,
    explain: GradcamDirOption = None,
    report: ReportOption = None,
    dicom_sr: DicomSrOption = None,
    dicom_sc: DicomScOption = None,
    dicom_pm: DicomPmOption = None,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = 1,
    max_memory: ScanMemoryOption = None,
    scan_timeout: ScanTimeoutOption = None,
    series: SeriesUidOption = None,
    allow: DowngradeCheckOption = None,
    include_phi: IncludePhiOption = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    cpus_per_worker: CpusPerWorkerOption = None,
) -> None:
    """Give every scan a probability for each class.

    A scan that cannot be read or predicted gets a record with a code and a sentence; the others are not affected. What
    cannot be written of a scan besides its record costs nothing else.
    """
    from ct3d_edge.results.shards import Shard

    if resume and not out:
        raise UsageError("--resume goes on with the run that wrote --out FILE; name that file.")
    folders = OutputFolders(explain, dicom_sr, dicom_sc, dicom_pm)
    config = inference_config(
        provider,
        allow_fallback,
        provider_option,
        device_id,
        no_build=no_build,
        no_tuned=no_tuned,
        gradcam=folders.need_gradcam,
        allow=allow,
        include_phi=include_phi,
    )
    files, memory = (montage, report, run_report), parse_size(max_memory)
    part = Shard.parse(shard) if shard else None
    run = InferRun(
        model, config, folders, *files, format_, out, resume, workers, batch_size, memory, scan_timeout, part
    )
    if engine == "ray":
        from ct3d_edge.cli.infer_ray import infer_on_ray, require_ray_options

        require_ray_options(run)
        search = _find_scans(paths, series, part, urls=True)
        raise typer.Exit(infer_on_ray(run, search, paths, address, cpus_per_worker or 1))
    if address or cpus_per_worker:
        raise UsageError("--address and --cpus-per-worker are options of a cluster; add --engine ray.")
    from ct3d_edge.cli.infer_local import infer_locally

    for path in filter(None, files):
        require_writable(path)
    raise typer.Exit(infer_locally(run, _find_scans(paths, series, part)))


def _find_scans(
    paths: list[Path], series: str | None, part: "Shard | None", *, urls: bool = False
) -> "DiscoveredScans":
    """The scans of the run, or those of its shard."""
    from ct3d_edge.cli.terminal import log, log_skipped
    from ct3d_edge.formatting import plural
    from ct3d_edge.scan.discovery import DiscoveredScans, discover_scans

    if any(":/" in str(path) for path in paths):
        from ct3d_edge.cli.infer_ray import find_url_scans

        search = DiscoveredScans(find_url_scans(paths, allowed=urls), ())
    else:
        search = discover_scans(paths, series)
        log_skipped(search.passed_over)
    if part is None:
        return search
    scans = tuple(part.select(search.scans))
    log(f"shard {part.index}/{part.count}: {len(scans)} of {plural(len(search.scans), 'scan')}")
    return replace(search, scans=scans)
