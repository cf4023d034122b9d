"""``ct3d-edge bench``: how long a scan takes here, from file to probability, and where the time goes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import FallbackOption, ModelOption, ProviderOption, model_path
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.latency import BenchRecord, Samples, StageTimer
    from ct3d_edge.runtime import Runner

PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "nibabel")
PHANTOM_SEED = 30_000
WARMUP = 3


def bench(
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: FallbackOption = False,
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
    if json_ and not json_.parent.is_dir():
        raise UsageError(f"Cannot write {json_}: there is no folder {json_.parent}.")
    from ct3d_edge.latency import BenchRecord, StageTimer, WallClock

    once = StageTimer(WallClock())
    from ct3d_edge.runtime import Runner, load_model_file

    once.lap("import")
    from ct3d_edge.cli.terminal import say_receipt
    from ct3d_edge.machine import describe_machine

    with _scans(scans) as paths:
        once = StageTimer(WallClock(), once.stages)
        file = load_model_file(model_path(model))
        once.lap("model file")
        with Runner(file, provider, allow_fallback=allow_fallback) as runner:
            once.lap("session")
            say_receipt(runner.receipt)
            once.stages["first run"] = _first_run(runner, paths[0])
            samples = _steady_state(runner, paths, runs)
            conditions = {"receipt": runner.receipt.to_dict(), "scans": [path.name for path in paths]}
    question = "From a scan file to its probability, one scan at a time"
    record = BenchRecord(question, describe_machine(PACKAGES), conditions, once.stages, samples)
    if json_:
        record.save(json_)
    _print(record)
    if json_:
        typer.echo(f"wrote {json_}")


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


def _first_run(runner: "Runner", path: Path) -> float:
    """Duration in ms of the first time that the network runs."""
    from ct3d_edge.latency import StageTimer, WallClock
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.scan import read_nifti

    volume = preprocess(read_nifti(path), runner.contract).volume
    timer = StageTimer(WallClock())
    runner.infer(volume[None])
    timer.lap("first run")
    return timer.stages["first run"]


def _steady_state(runner: "Runner", paths: list[Path], runs: int) -> "Samples":
    from ct3d_edge.cli.terminal import progress
    from ct3d_edge.latency import measure
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.scan import read_nifti

    def scan_to_probability(number: int, timer: "StageTimer") -> None:
        volume = read_nifti(paths[number % len(paths)])
        timer.lap("read")
        prepared = preprocess(volume, runner.contract)
        timer.lap("preprocess")
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
    series = {**record.samples.counted, "file to probability": record.samples.total}
    runs = len(record.samples.total)
    table = Table(title=f"Steady state: ms over {runs} runs after {WARMUP} warm-up runs", title_justify="left")
    table.add_column("stage")
    for rank in ("p50", "p90", "p99"):
        table.add_column(rank, justify="right")
    for stage, samples in series.items():
        table.add_row(stage, *(f"{entry.value:.1f}{'*' if entry.missing else ''}" for entry in summary(samples)))
    console.print(table)
    for entry in summary(record.samples.total):
        if entry.missing:
            console.print(f"* p{entry.rank} needs {entry.missing} more runs before it can be relied on.")
