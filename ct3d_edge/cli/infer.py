"""``ct3d-edge infer``: scans in, probabilities out; predicted on this machine or handed to a Ray cluster."""

import logging
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
    log_summary,
    print_record,
    print_results_table,
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
    ScansArgument,
    ScanTimeoutOption,
    SeriesUidOption,
    WorkersOption,
    inference_config,
    resolve_model_path,
)
from ct3d_edge.cli.terminal import log, log_run_report, log_skipped, report_progress
from ct3d_edge.errors import Ct3dError, UsageError
from ct3d_edge.formatting import parse_size, plural
from ct3d_edge.system.atomic_write import require_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ct3d_edge.cli.extra_outputs import ExtraOutputs
    from ct3d_edge.inference.model import Model
    from ct3d_edge.inference.predict import ScanResult
    from ct3d_edge.inference.predict_many import Schedule
    from ct3d_edge.results.record import ResultRecord
    from ct3d_edge.results.results_file import ResultsFile
    from ct3d_edge.results.shards import Shard
    from ct3d_edge.scan.discovery import DiscoveredScans

LOGGER = logging.getLogger("ct3d_edge.infer")

WORTH_TUNING = 20
"""Scans of a run for which a minute of tuning pays."""


def infer(
    paths: ScansArgument,
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
    for path in filter(None, files):
        require_writable(path)
    raise typer.Exit(_infer_locally(run, _find_scans(paths, series, part)))


def _find_scans(
    paths: list[Path], series: str | None, part: "Shard | None", *, urls: bool = False
) -> "DiscoveredScans":
    """The scans of the run, or those of its shard."""
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


def _infer_locally(run: InferRun, search: "DiscoveredScans") -> int:
    """Predict the scans; the exit code.

    An error that ends the run early is raised when the records so far are written and printed.
    """
    from ct3d_edge.cli.extra_outputs import open_extra_outputs
    from ct3d_edge.inference.model import open_model
    from ct3d_edge.report.montage import Montage
    from ct3d_edge.report.table import compare_with_class_folders
    from ct3d_edge.results.results_file import open_results
    from ct3d_edge.results.shards import merge_records

    scans, model_name = search.scans, resolve_model_path(run.model).stem
    picture = Montage(run.montage) if run.montage else None
    folders = run.folders.open(scans, model_name, include_phi=run.config.include_phi, seconds=run.scan_timeout)
    records: list[ResultRecord] = []
    sides: ExtraOutputs | None = None
    with open_results(run.out, resume=run.resume, shard=run.shard) if run.out else nullcontext() as results_file:
        with open_model(run.model, run.config) as opened:
            opened.search_flags = search.flags
            plan = _make_schedule(run, opened, len(scans))
            begun = time.monotonic()
            results = _iter_results(run, opened, scans, plan, results_file)
            if picture or run.report or folders or run.resume:
                sides = open_extra_outputs(run, opened, picture, folders)
            printed = partial(print_record, labels=(labels := opened.contract.labels), format_=run.format_)
            stop = _collect_records(results, len(scans), records, results_file, sides, printed)
            seconds = time.monotonic() - begun
        if stop and not records:
            raise stop
        if results_file and not stop:
            if results_file.started.earlier:  # after a killed run some were predicted last
                records = list(merge_records({"this run": records}, list(map(str, scans))).records)
            results_file.finish(records, labels)
    print_results_table(records, labels, run.format_)
    if sides:
        sides.save(records)
    log_summary(records, len(scans), seconds, results_file)
    for sentence in compare_with_class_folders(records, labels):
        log(sentence)
    _log_written(run, stop, sides, results_file)
    if stop:
        raise stop
    return 0 if (sides is None or sides.complete) and all(record.has_prediction for record in records) else 1


def _make_schedule(run: InferRun, model: "Model", scans: int) -> "Schedule":
    """Choose how the scans run; log that and the session, and write the run report where one was asked for."""
    schedule = model.make_schedule(scans, workers=run.workers, batch_size=run.batch_size, max_memory=run.max_memory)
    log_run_report(model.run_report)
    if run.run_report:
        model.run_report.save(run.run_report)
    log(schedule.describe())
    if run.model and scans >= WORTH_TUNING:  # a tuning stands beside the model, not in the installed package
        from ct3d_edge.cli.tune import suggest_tuning

        suggest_tuning(run.model, model.run_report)
    return schedule


def _iter_results(
    run: InferRun, model: "Model", scans: "Sequence[Path]", plan: "Schedule", results_file: "ResultsFile | None"
) -> "Generator[ScanResult, None, None]":
    """Results of the scans; with a results file, also those of an earlier run that still hold."""
    if results_file is None:
        return model.iter_results(scans, plan, timeout_s=run.scan_timeout)
    from ct3d_edge.inference.resume import iter_resumed

    return iter_resumed(model, scans, plan, results_file, run.scan_timeout)


def _log_written(
    run: InferRun, stop: BaseException | None, sides: "ExtraOutputs | None", results_file: "ResultsFile | None"
) -> None:
    if results_file and stop:
        log(results_file.describe_journal())
    for path in filter(None, [None if stop else run.out, *(sides.written if sides else ()), run.run_report]):
        log(f"wrote {path}")


def _collect_records(
    analyses: "Generator[ScanResult, None, None]",
    scans: int,
    records: "list[ResultRecord]",
    results_file: "ResultsFile | None",
    sides: "ExtraOutputs | None",
    print_one: "Callable[..., None]",
) -> BaseException | None:
    """Append one record per scan; return the error that ended this early, if any, so that the records are saved."""
    try:
        with closing(analyses), report_progress(scans, "Scans") as advance:
            for analysis in analyses:
                records.append(analysis.record)  # first: Ctrl-C while something is written must not hide a record
                try:
                    if sides:
                        records[-1] = sides.add(analysis)
                finally:
                    if results_file:
                        results_file.add(records[-1])
                print_one(records[-1], first=len(records) == 1)
                advance()
                LOGGER.debug("%s: %s (%.0f ms)", records[-1].scan, records[-1].status, records[-1].timing.total)
    except (KeyboardInterrupt, Ct3dError) as stop:
        return stop
    return None
