"""``ct3d-edge bench``: how long a scan takes here, from file to probability, and where the time goes."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.atomic import require_writable
from ct3d_edge.cli.options import (
    DeviceIdOption,
    FallbackOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    ReceiptOption,
    model_path,
)
from ct3d_edge.errors import ScanError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.latency import BenchRecord, Samples, StageTimer
    from ct3d_edge.runtime import ModelFile, Runner

PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "nibabel")
PHANTOM_SEED = 30_000
WARMUP = 3


def bench(
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: FallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    receipt: ReceiptOption = None,
    scans: Annotated[
        Path | None,
        typer.Option("--scans", help="Scans to time, in turn; one phantom of 512 x 512 x 40 if left out."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="Counted runs.")] = 50,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every sample and the environment here.")] = None,
) -> None:
    """Time import, session, first run and steady state apart; in steady state read, preprocess and infer apart.

    Nothing is dropped or averaged away: percentiles are measured samples, and the file has all of them.
    """
    from ct3d_edge.cli.running import open_runner

    if json_:
        require_writable(json_)
    once = _timed_import()
    with _scans(scans) as paths:
        record = _record(
            paths,
            model,
            lambda file: open_runner(file, provider, allow_fallback, provider_option, device_id, no_build, receipt),
            runs,
            once,
        )
    _print(record)
    if json_:
        record.save(json_)
        typer.echo(f"wrote {json_}")


def _timed_import() -> "dict[str, float]":
    """Import what `infer` needs, before anything else has imported it."""
    from ct3d_edge.latency import StageTimer, WallClock

    timer = StageTimer(WallClock())
    from ct3d_edge import preprocess, runtime, scan  # noqa: F401

    timer.lap("import")
    return timer.stages


def _record(
    paths: list[Path],
    model: Path | None,
    start: "Callable[[ModelFile], Runner]",
    runs: int,
    once: dict[str, float],
) -> "BenchRecord":
    """Everything that happens once, then the steady state."""
    from ct3d_edge.latency import BenchRecord, StageTimer, WallClock
    from ct3d_edge.machine import describe_machine
    from ct3d_edge.runtime import load_model_file

    timer = StageTimer(WallClock(), once)
    file = load_model_file(model_path(model))
    timer.lap("model file")
    with start(file) as runner:
        timer.lap("session")
        volumes = [_network_input(path, runner) for path in paths]
        timer = StageTimer(WallClock(), once)
        runner.infer(volumes[0][None])
        timer.lap("first run")
        del volumes
        samples = _steady_state(runner, paths, runs)
        receipt = runner.receipt.to_dict()
    return BenchRecord(
        "From a scan file to its probability, one scan at a time",
        describe_machine(PACKAGES),
        {"receipt": receipt, "scans": [path.name for path in paths], "order": "run n takes scan n mod their number"},
        once,
        samples,
    )


@contextmanager
def _scans(folder: Path | None) -> Iterator[list[Path]]:
    """The user's scans, or one phantom that lives as long as the benchmark."""
    from ct3d_edge.datasets import make_phantom, save_scan
    from ct3d_edge.scan import find_scans

    if folder:
        yield find_scans([folder])
        return
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "phantom.nii.gz")
        save_scan(make_phantom(PHANTOM_SEED, abnormal=True, shape=(512, 512, 40)), path)
        yield [path]


def _network_input(path: Path, runner: "Runner") -> "NDArray[np.float32]":
    """Prepare a scan once before anything is timed: one that cannot be used must not end a long measurement."""
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.scan import NiftiScan

    try:
        return preprocess(NiftiScan(path), runner.contract).volume
    except ScanError as error:
        raise UsageError(f"The benchmark cannot use {path} ({error.code}): {error}") from error


def _steady_state(runner: "Runner", paths: list[Path], runs: int) -> "Samples":
    from ct3d_edge.cli.terminal import progress
    from ct3d_edge.latency import measure
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.scan import NiftiScan

    def scan_to_probability(number: int, timer: "StageTimer") -> None:
        scan = NiftiScan(paths[number % len(paths)])
        prepared = preprocess(scan, runner.contract)
        timer.lap("preprocess")
        timer.move(scan.reading_ms, "preprocess", to="read")
        runner.infer(prepared.volume[None])
        timer.lap("infer")

    with progress(WARMUP + runs, "Runs") as advance:
        return measure(scan_to_probability, runs, warmup=WARMUP, on_run=advance)


def _print(record: "BenchRecord") -> None:
    from rich.table import Table

    from ct3d_edge.cli.terminal import out
    from ct3d_edge.latency import summary

    console = out()
    console.print("Once, in ms: " + ", ".join(f"{name} {value:.1f}" for name, value in record.once.items()))
    series = {stage: record.samples.counted[stage] for stage in ("read", "preprocess", "infer")}
    series["file to probability"] = record.samples.total
    console.print(f"Steady state, in ms: {len(record.samples.total)} runs after {WARMUP} warm-up runs")
    table = Table()
    table.add_column("stage")
    for rank in ("p50", "p90", "p99"):
        table.add_column(rank, justify="right")
    for stage, samples in series.items():
        table.add_row(stage, *(f"{entry.value:.1f}{'*' if entry.missing else ''}" for entry in summary(samples)))
    console.print(table)
    for entry in summary(record.samples.total):
        if entry.missing:
            console.print(f"* p{entry.rank} needs {entry.missing} more runs before it can be relied on.")
