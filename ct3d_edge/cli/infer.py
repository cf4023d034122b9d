"""``ct3d-edge infer``: scans in, probabilities out."""

import logging
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
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
    resolve_model_path,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size
from ct3d_edge.system.atomic_write import require_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ct3d_edge.cli.extra_outputs import ExtraOutput, ExtraOutputs
    from ct3d_edge.inference.model import Model
    from ct3d_edge.inference.predict import ScanResult
    from ct3d_edge.inference.predict_many import Schedule
    from ct3d_edge.report.montage import Montage
    from ct3d_edge.results.record import ResultRecord
    from ct3d_edge.results.results_file import ResultsFile
    from ct3d_edge.scan.discovery import DiscoveredScans


LOGGER = logging.getLogger("ct3d_edge.infer")


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
    cpus_per_worker: CpusPerWorkerOption = 1,
) -> None:
    """Give every scan a probability for each class.

    A scan that cannot be read or predicted gets a record with a code and a sentence; the others are not affected. What
    cannot be written of a scan besides its record costs nothing else.
    """
    from ct3d_edge.cli.infer_options import print_record, print_results_table
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.inference.model import open_model
    from ct3d_edge.report.montage import Montage
    from ct3d_edge.results.results_file import open_results

    if resume and not out:
        raise UsageError("--resume goes on with the run that wrote --out FILE; name that file.")
    wanted = OutputFolders(explain, dicom_sr, dicom_sc, dicom_pm)
    config = inference_config(
        provider,
        allow_fallback,
        provider_option,
        device_id,
        no_build=no_build,
        no_tuned=no_tuned,
        gradcam=wanted.need_gradcam,
        allow=allow,
        include_phi=include_phi,
    )
    if engine == "ray":
        from ct3d_edge.cli.infer_ray import infer_on_ray, require_ray_options

        require_ray_options(
            {
                "--montage": montage,
                "--gradcam-dir": explain,
                "--report": report,
                "--dicom-sr": dicom_sr,
                "--dicom-sc": dicom_sc,
                "--dicom-pm": dicom_pm,
                "--run-report": run_report,
                "--workers": workers,
                "--batch-size": batch_size > 1,
                "--max-memory": max_memory,
            }
        )
        code = infer_on_ray(
            _find_scans(paths, series, shard, urls=True),
            paths,
            resolve_model_path(model),
            config,
            out=out,
            resume=resume,
            format_=format_,
            address=address,
            cpus_per_worker=cpus_per_worker,
            scan_timeout=scan_timeout,
        )
        raise typer.Exit(code)
    budget = parse_size(max_memory)
    if run_report:
        require_writable(run_report)
    picture = Montage(montage) if montage else None
    search = _find_scans(paths, series, shard)
    scans = search.scans
    folders = wanted.open(scans, resolve_model_path(model).stem, include_phi=include_phi, seconds=scan_timeout)
    records: list[ResultRecord] = []
    sides: ExtraOutputs | None = None
    with open_results(out, resume=resume) if out else nullcontext() as results_file:
        with open_model(model, config) as opened:
            opened.search_flags = search.flags
            plan = opened.make_schedule(len(scans), workers=workers, batch_size=batch_size, max_memory=budget)
            _log_session(opened, plan, run_report, len(scans), model)
            begun = time.monotonic()
            analyses = _iter_results(opened, scans, plan, results_file, scan_timeout)
            if picture or report or folders or resume:
                sides = _open_extra_outputs(opened, picture, report, folders, scan_timeout)
            printed = partial(print_record, labels=(labels := opened.contract.labels), format_=format_)
            stop = _collect_records(analyses, len(scans), records, results_file, sides, printed)
            seconds = time.monotonic() - begun
        if stop and not records:
            raise stop
        if results_file and not stop:
            records = _write_results(results_file, records, scans, labels)
    print_results_table(records, labels, format_)
    if sides:
        sides.save(records)
    _log_summary(records, labels, len(scans), seconds, results_file)
    if results_file and stop:
        log(results_file.describe_journal())
    _log_written(None if stop else out, sides, run_report)
    if stop:
        raise stop
    raise typer.Exit(0 if (sides is None or sides.complete) and all(record.has_prediction for record in records) else 1)


def _find_scans(paths: list[Path], series: str | None, shard: str | None, *, urls: bool = False) -> "DiscoveredScans":
    """The scans of the run, or those of its shard."""
    from ct3d_edge.cli.terminal import log, log_skipped
    from ct3d_edge.formatting import plural
    from ct3d_edge.results.shards import Shard
    from ct3d_edge.scan.discovery import DiscoveredScans, discover_scans

    part = Shard.parse(shard) if shard else None
    if any(":/" in str(path) for path in paths):
        from ct3d_edge.cli.infer_ray import find_url_scans

        search = DiscoveredScans(find_url_scans(paths, allowed=urls), ())
    else:
        search = discover_scans(paths, series)
        log_skipped(search.passed_over)
    if part is None:
        return search
    scans = tuple(part.select(search.scans))
    log(f"shard {shard}: {len(scans)} of {plural(len(search.scans), 'scan')}")
    return replace(search, scans=scans)


def _open_extra_outputs(
    model: "Model",
    montage: "Montage | None",
    report: Path | None,
    folders: "list[ExtraOutput]",
    seconds: float | None,
) -> "ExtraOutputs":
    """All outputs of a run; without any, still what removes the flags of those that an earlier run lacked."""
    from ct3d_edge.cli.extra_outputs import ExtraOutputs, HtmlReportOutput, MontageOutput
    from ct3d_edge.report.page import ReportPage

    pictures: list[ExtraOutput] = [MontageOutput(montage)] if montage else []
    if report:
        pictures.append(HtmlReportOutput(ReportPage(report, model.contract), model.run_report.to_dict()))
    return ExtraOutputs(model, [*pictures, *folders], seconds)


def _log_session(model: "Model", schedule: "Schedule", run_report: Path | None, scans: int, path: Path | None) -> None:
    """Log what runs the network and how, and write the run report where one was asked for."""
    from ct3d_edge.cli.infer_options import WORTH_TUNING, suggest_tuning
    from ct3d_edge.cli.terminal import log, log_run_report

    log_run_report(model.run_report)
    if run_report:
        model.run_report.save(run_report)
    log(schedule.describe())
    if path and scans >= WORTH_TUNING:  # a tuning would stand beside the model, not in the installed package
        suggest_tuning(path, model.run_report)


def _iter_results(
    model: "Model", scans: "Sequence[Path]", plan: "Schedule", results_file: "ResultsFile | None", seconds: float | None
) -> "Generator[ScanResult, None, None]":
    """Results of the scans; with a results file, also those of an earlier run that still hold."""
    if results_file is None:
        return model.iter_results(scans, plan, timeout_s=seconds)
    from ct3d_edge.inference.resume import iter_resumed

    return iter_resumed(model, scans, plan, results_file, seconds)


def _collect_records(
    analyses: "Generator[ScanResult, None, None]",
    scans: int,
    records: "list[ResultRecord]",
    results_file: "ResultsFile | None",
    sides: "ExtraOutputs | None",
    print_one: "Callable[..., None]",
) -> BaseException | None:
    """Append one record per scan; return the error that ended this early, if any, so that the records are saved."""
    from ct3d_edge.cli.terminal import report_progress
    from ct3d_edge.errors import Ct3dError

    try:
        with closing(analyses), report_progress(scans, "Scans") as advance:
            for analysis in analyses:
                records.append(analysis.record)  # first: Ctrl-C while something is written must not hide an answer
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


def _write_results(
    results_file: "ResultsFile", records: "list[ResultRecord]", scans: "Sequence[Path]", labels: "Sequence[str]"
) -> "list[ResultRecord]":
    """Write the records in the order of the scans, and return them so; after a killed run some were predicted last."""
    if results_file.started.earlier:
        from ct3d_edge.results.shards import merge_records

        records = list(merge_records({"this run": records}, list(map(str, scans))).records)
    results_file.finish(records, labels)
    return records


def _log_summary(
    records: "Sequence[ResultRecord]",
    labels: "Sequence[str]",
    scans: int,
    seconds: float,
    results_file: "ResultsFile | None",
) -> None:
    """How the run ended, what would predict more scans, and how far the answers agree with class folders."""
    from ct3d_edge.cli.infer_options import log_reused, suggest_fixes, summarize_run
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.report.table import compare_with_class_folders

    log(summarize_run(records, scans, seconds))
    log_reused(results_file)
    suggest_fixes(records)
    for sentence in compare_with_class_folders(records, labels):
        log(sentence)


def _log_written(out: Path | None, sides: "ExtraOutputs | None", run_report: Path | None) -> None:
    from ct3d_edge.cli.terminal import log

    for path in filter(None, [out, *(sides.written if sides else ()), run_report]):
        log(f"wrote {path}")
