"""``ct3d-edge watch``: scans are predicted as they arrive in a folder."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ct3d_edge.cli.config_file import ConfigurableCommand
from ct3d_edge.cli.infer_options import DicomPmOption, DicomScOption, DicomSrOption, GradcamDirOption, OutputFolders
from ct3d_edge.cli.options import (
    AllowFallbackOption,
    BatchSizeOption,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    IncludePhiOption,
    ModelOption,
    ProviderOption,
    ProviderOptionsOption,
    ScanMemoryOption,
    ScanTimeoutOption,
    WorkersOption,
    inference_config,
    resolve_model_path,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct3d_edge.cli.extra_outputs import ExtraOutputs
    from ct3d_edge.inference.model import Model
    from ct3d_edge.inference.predict_many import Schedule
    from ct3d_edge.inference.watch import WatchedFolder
    from ct3d_edge.results.journal import ResultsJournal
    from ct3d_edge.results.record import ResultRecord

COMMAND_CLASS = ConfigurableCommand


def watch(
    folder: Annotated[Path, typer.Argument(metavar="INCOMING", help="Folder in which scans arrive.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .jsonl file; a record is appended for each scan.")],
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_tuned: IgnoreTuningOption = False,
    every: Annotated[
        float, typer.Option("--poll-interval", min=0.01, help="Seconds between two scans of the folder.")
    ] = 2,
    settle: Annotated[
        float, typer.Option("--stable-for", min=0, help="Seconds for which a scan must not change before it is read.")
    ] = 5,
    gradcam_dir: GradcamDirOption = None,
    dicom_sr: DicomSrOption = None,
    dicom_sc: DicomScOption = None,
    dicom_pm: DicomPmOption = None,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = 1,
    max_memory: ScanMemoryOption = None,
    scan_timeout: ScanTimeoutOption = None,
    allow: DowngradeCheckOption = None,
    include_phi: IncludePhiOption = False,
) -> None:
    """Predict scans as they arrive, until Ctrl-C.

    Started again, it goes on where it was: scans whose record is in the file are not predicted twice, changed ones are.
    """
    from ct3d_edge.cli.extra_outputs import ExtraOutputs, names_below
    from ct3d_edge.cli.terminal import log, log_run_report
    from ct3d_edge.inference.model import open_model
    from ct3d_edge.inference.watch import WatchedFolder
    from ct3d_edge.results.formats import check_results_path
    from ct3d_edge.results.journal import ResultsJournal
    from ct3d_edge.system.file_lock import exclusive_lock

    if out.suffix.lower() != ".jsonl":
        raise UsageError(f"Records are appended as JSON Lines; the file must end in .jsonl, found {out}.")
    check_results_path(out)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    folders = OutputFolders(gradcam_dir, dicom_sr, dicom_sc, dicom_pm)
    _check_output_folders(folders.paths, folder)
    config = inference_config(
        provider,
        allow_fallback,
        provider_option,
        device_id,
        no_tuned=no_tuned,
        gradcam=folders.need_gradcam,
        allow=allow,
        include_phi=include_phi,
    )
    model_name = resolve_model_path(model).stem
    names = names_below(folder)
    outputs = folders.open((), model_name, include_phi=include_phi, seconds=scan_timeout, names=names)
    budget, target = parse_size(max_memory), out.resolve()
    watched = WatchedFolder(folder, settle)
    with exclusive_lock(target), ResultsJournal(target) as journal, open_model(model, config) as opened:
        plan = opened.make_schedule(workers=workers, batch_size=batch_size, max_memory=budget)
        log_run_report(opened.run_report)
        log(f"watching {folder}: {plan.describe()}; {plural(journal.records, 'record')} in {out}; Ctrl-C ends it")
        try:
            _watch_loop(
                watched, opened, plan, journal, ExtraOutputs(opened, outputs, scan_timeout), every, scan_timeout
            )
        except KeyboardInterrupt:
            log(
                f"stopped: {plural(journal.records, 'record')} in {out}, {plural(watched.pending, 'scan')} not "
                "complete yet"
            )


def _check_output_folders(outputs: "Sequence[Path]", incoming: Path) -> None:
    for output in outputs:
        if output.resolve().is_relative_to(incoming.resolve()):
            raise UsageError(f"Outputs must not lie among the scans that arrive: {output} is in {incoming}.")


def _watch_loop(
    watched: "WatchedFolder",
    model: "Model",
    plan: "Schedule",
    journal: "ResultsJournal",
    outputs: "ExtraOutputs",
    every: float,
    seconds: float | None,
) -> NoReturn:
    """Look, predict, wait, for ever."""
    known, checker = _load_known_records(journal), model.make_checker()
    for record in known.values():  # in the order in which they were predicted
        if record.input_sha256 is not None:
            checker.flag_repeated(record.scan, record.input_sha256)
    complaints = _LogOnce()
    while True:
        arrived = complaints.scan_folder(watched)
        if arrived is not None:
            known = {scan: record for scan, record in known.items() if Path(scan) in watched}
            checker.search_flags = watched.flags
            results = model.iter_results(arrived, plan, known_records=known, timeout_s=seconds, checker=checker)
            with closing(results) as analyses:
                for analysis in analyses:
                    _store_record(outputs.add(analysis), known, journal)
            journal.sync()
        time.sleep(every)


def _load_known_records(journal: "ResultsJournal") -> "dict[str, ResultRecord]":
    """Records of earlier runs; those whose scan went away are forgotten at the first look."""
    from ct3d_edge.results.journal import read_journal
    from ct3d_edge.results.results_file import keep_latest_by_scan

    return keep_latest_by_scan(read_journal(journal.path))


def _store_record(record: "ResultRecord", known: "dict[str, ResultRecord]", journal: "ResultsJournal") -> None:
    from ct3d_edge.cli.terminal import log

    if known.get(record.scan) is record:
        return
    journal.append(record)
    if record.key is not None:
        known[record.scan] = record
    log(f"{record.scan}: {record.describe()}")


class _LogOnce:
    """Logs an error of the folder once, not at every poll."""

    def __init__(self) -> None:
        self._last: str | None = None

    def scan_folder(self, watched: "WatchedFolder") -> list[Path] | None:
        """What has arrived; None while the folder is gone, a network drive being away for instance."""
        from ct3d_edge.cli.terminal import log

        try:
            arrived = watched.poll()
        except UsageError as error:
            if str(error) != self._last:
                log(f"{error} Waiting for it.")
            self._last = str(error)
            return None
        if self._last is not None:
            log(f"{watched.folder} can be searched again")
            self._last = None
        return arrived
