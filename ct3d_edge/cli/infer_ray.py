"""``infer --engine ray``: the scans of a run on the machines of a Ray cluster."""

import sys
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.infer_options import InferRun, log_summary, print_record, print_results_table
from ct3d_edge.cli.options import resolve_model_path
from ct3d_edge.errors import Ct3dError, UsageError
from ct3d_edge.extras import require_extra

if TYPE_CHECKING:
    from ct3d_edge.cluster.ray_engine import RayEngine
    from ct3d_edge.results.record import ResultRecord
    from ct3d_edge.results.results_file import ResultsFile
    from ct3d_edge.scan.discovery import DiscoveredScans


def require_ray_options(run: InferRun) -> None:
    """Refuse options whose work needs the volumes, which stay on the machines that read them."""
    options = {
        "--montage": run.montage,
        "--gradcam-dir": run.folders.gradcam,
        "--report": run.report,
        "--dicom-sr": run.folders.dicom_sr,
        "--dicom-sc": run.folders.dicom_sc,
        "--dicom-pm": run.folders.dicom_pm,
        "--run-report": run.run_report,
        "--workers": run.workers,
        "--batch-size": run.batch_size > 1,
        "--max-memory": run.max_memory,
    }
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"{given[0]} does not work with --engine ray: records travel, volumes do not. Run `infer --resume` with "
            f"{given[0]} on the same --out afterwards."
        )


def find_url_scans(paths: Sequence[Path], *, allowed: bool) -> tuple[Path, ...]:
    """The scans under URLs; as an argument, a URL has lost one of its slashes."""
    from ct3d_edge.cluster.remote_scans import find_remote_scans, parse_url

    urls = [parse_url(path) for path in paths]
    if not allowed:
        url = next(filter(None, urls), paths[0])
        raise UsageError(f"{url} is a URL: only `infer --engine ray` reads those. Copy the scans here, or use it.")
    if None in urls:
        raise UsageError("Name either URLs or files and folders, in one run.")
    return tuple(Path(scan) for url in urls if url for scan in find_remote_scans(url))


def infer_on_ray(
    run: InferRun, search: "DiscoveredScans", inputs: Sequence[Path], address: str | None, cpus_per_worker: int
) -> int:
    """Run the scans on a cluster, write and print their records, and return the exit code."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.cluster.ray_engine import RAY_MODULES, RayEngine
    from ct3d_edge.cluster.remote_scans import parse_url
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.results.results_file import open_results
    from ct3d_edge.results.shards import merge_records

    require_extra("ray", RAY_MODULES)
    file = load_model_file(resolve_model_path(run.model))
    engine = RayEngine(
        file,
        run.config,
        [parse_url(path) or str(path) for path in inputs],
        address=address,
        cpus_per_worker=cpus_per_worker,
        scan_timeout=run.scan_timeout,
        search_flags=search.flags,
    )
    names = [parse_url(scan) or str(scan) for scan in search.scans]
    records: dict[str, ResultRecord] = {}
    begun = time.monotonic()
    with open_results(run.out, resume=run.resume, shard=run.shard) if run.out else nullcontext() as results_file:
        stop = _collect(engine, names, records, results_file)
        if stop and not records:
            raise stop
        merged = merge_records({"this run": list(records.values())}, names).records
        if results_file and not stop:
            results_file.finish(merged, file.contract.labels)
    for number, record in enumerate(merged):
        print_record(record, file.contract.labels, run.format_, first=number == 0)
    print_results_table(merged, file.contract.labels, run.format_)
    log_summary(merged, len(names), time.monotonic() - begun, results_file)
    if stop:
        if results_file:
            log(results_file.describe_journal())
        raise stop
    if run.out:
        log(f"wrote {run.out}")
    return 0 if all(record.has_prediction for record in merged) else 1


def _collect(
    engine: "RayEngine", scans: list[str], records: "dict[str, ResultRecord]", results_file: "ResultsFile | None"
) -> BaseException | None:
    """Journal each record as it comes; return the error that ended this early, if any.

    Ray prints what happens to the processes of its machines to the standard output, which is for records.
    """
    from ct3d_edge.cli.terminal import report_progress
    from ct3d_edge.inference.predict import NO_RECORDS

    known = results_file.known if results_file else NO_RECORDS
    try:
        with (
            redirect_stdout(sys.stderr),
            closing(engine.results(scans, known)) as results,
            report_progress(len(scans), "Scans") as advance,
        ):
            for result in results:
                earlier = known.get(result.scan)
                record = earlier if earlier == result else result  # the journal holds the former already
                records[record.scan] = record
                if results_file:
                    results_file.add(record)
                advance()
    except (KeyboardInterrupt, Ct3dError) as stop:
        return stop
    return None
