"""``infer`` on this machine: predict the scans of a run, write and print their records."""

import logging
import shlex
import time
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.infer_options import (
    InferRun,
    log_reused,
    print_record,
    print_results_table,
    suggest_fixes,
    summarize_run,
)
from ct3d_edge.cli.options import resolve_model_path
from ct3d_edge.cli.terminal import log, log_run_report, report_progress
from ct3d_edge.errors import Ct3dError

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
    from ct3d_edge.session.run_report import RunReport

LOGGER = logging.getLogger("ct3d_edge.infer")


def infer_locally(run: InferRun, search: "DiscoveredScans") -> int:
    """Predict the scans; the exit code.

    An error that ends the run early is raised when the records so far are written and printed.
    """
    from ct3d_edge.inference.model import open_model
    from ct3d_edge.report.montage import Montage
    from ct3d_edge.results.results_file import open_results

    scans, model_name = search.scans, resolve_model_path(run.model).stem
    picture = Montage(run.montage) if run.montage else None
    include_phi = run.config.include_phi
    folders = run.folders.open(scans, model_name, include_phi=include_phi, seconds=run.scan_timeout)
    records: list[ResultRecord] = []
    sides: ExtraOutputs | None = None
    with open_results(run.out, resume=run.resume, shard=run.shard) if run.out else nullcontext() as results_file:
        with open_model(run.model, run.config) as opened:
            opened.search_flags = search.flags
            plan = _make_schedule(run, opened, len(scans))
            begun = time.monotonic()
            results = _iter_results(run, opened, scans, plan, results_file)
            if picture or run.report or folders or run.resume:
                sides = _open_extra_outputs(run, opened, picture, folders)
            printed = partial(print_record, labels=(labels := opened.contract.labels), format_=run.format_)
            stop = _collect_records(results, len(scans), records, results_file, sides, printed)
            seconds = time.monotonic() - begun
        if stop and not records:
            raise stop
        if results_file and not stop:
            records = _write_results(results_file, records, scans, labels)
    print_results_table(records, labels, run.format_)
    if sides:
        sides.save(records)
    _log_summary(records, labels, len(scans), seconds, results_file)
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
        _suggest_tuning(run.model, model.run_report)
    return schedule


def _iter_results(
    run: InferRun, model: "Model", scans: "Sequence[Path]", plan: "Schedule", results_file: "ResultsFile | None"
) -> "Generator[ScanResult, None, None]":
    """Results of the scans; with a results file, also those of an earlier run that still hold."""
    if results_file is None:
        return model.iter_results(scans, plan, timeout_s=run.scan_timeout)
    from ct3d_edge.inference.resume import iter_resumed

    return iter_resumed(model, scans, plan, results_file, run.scan_timeout)


def _open_extra_outputs(
    run: InferRun, model: "Model", montage: "Montage | None", folders: "list[ExtraOutput]"
) -> "ExtraOutputs":
    """All outputs of a run; without any, still what removes the flags of those that an earlier run lacked."""
    from ct3d_edge.cli.extra_outputs import ExtraOutputs, HtmlReportOutput, MontageOutput
    from ct3d_edge.report.page import ReportPage

    pictures: list[ExtraOutput] = [MontageOutput(montage)] if montage else []
    if run.report:
        pictures.append(HtmlReportOutput(ReportPage(run.report, model.contract), model.run_report.to_dict()))
    return ExtraOutputs(model, [*pictures, *folders], run.scan_timeout)


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
    """How the run ended, what would predict more scans, and how far the predictions agree with class folders."""
    from ct3d_edge.report.table import compare_with_class_folders

    log(summarize_run(records, scans, seconds))
    log_reused(results_file)
    suggest_fixes(records)
    for sentence in compare_with_class_folders(records, labels):
        log(sentence)


WORTH_TUNING = 20
"""Scans of a run for which a minute of tuning pays."""


def _suggest_tuning(model: Path, run_report: "RunReport") -> None:
    """Name the command that may find something faster: this CPU multiplies small numbers faster than float32."""
    from ct3d_edge.extras import OPTIMIZE_MODULES, has_modules, pip_install_command
    from ct3d_edge.providers.names import install_command
    from ct3d_edge.session.provider_selection import is_available
    from ct3d_edge.system.machine import detect_cpu_features

    features = detect_cpu_features() or {}
    units = [name for name in ("AMX", "VNNI") if features.get(name)]
    if not units or run_report.tuned or (run_report.requested, run_report.actual) != ("auto", "cpu"):
        return
    log(f"this CPU has {' and '.join(units)}; a faster way may be found by:")
    if not has_modules(OPTIMIZE_MODULES):
        log(f"  {pip_install_command('optimize')}")
    if not is_available("openvino"):
        log(f"  {install_command('openvino')}  (optional)")
    log(f"  ct3d-edge tune --model {shlex.quote(str(model))} --allow-precision any")
