"""How long does an export with its parity check take, and how much memory?

    python -m bench.export RUN [ROUNDS]

RUN is a training run or .keras file. Each round runs `ct3d-edge export --model RUN` in a fresh process, as a user
would: eight phantoms, the level `fast`. Its stages are told apart by the lines that the command prints when one begins.
Beside them a process that does nothing but import TensorFlow and Keras. Every sample goes to bench/results/export.json.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.save_record import save_record
from bench.sessions import parse_arguments
from ct3d_edge.latency.measure import Samples, StageTimer, WallClock, measure_runs
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import SystemMonitor
from ct3d_edge.system.machine import describe_machine

PACKAGES = ("ct3d-edge", "keras", "tensorflow", "tf2onnx", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu")
ROUNDS = 5

COMMAND = (sys.executable, "-c", "from ct3d_edge.cli.app import main; main()", "export", "--model")
IMPORT = (sys.executable, "-c", "from ct3d_edge.keras_backend import import_keras; import_keras()")

STARTUP = "start, import of TensorFlow, network"
STAGES = {
    "converting ...": "conversion, answers of the golden test",
    "rewriting ...": "passes",
    "checking parity ...": "parity check of the probabilities",
    "comparing tensors ...": "proof of the tensors",
    "writing ...": "golden test, writing, end",
}
"""What the command says when a stage begins."""
IMPORT_ONLY = "import of TensorFlow and Keras alone"


def export(run: Path, out: Path, timer: StageTimer) -> int:
    """Run the command, a lap for each stage; the process's peak of resident memory in bytes."""
    process = subprocess.Popen(
        [*COMMAND, str(run), "--out", str(out)], stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
    )
    stage, said = STARTUP, ""
    for line in process.stderr or ():
        said += line
        if following := STAGES.get(line.strip()):
            timer.lap(stage)
            stage = following
    _, status, usage = os.wait4(process.pid, 0)
    timer.lap(stage)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or stage != STAGES["writing ..."]:
        raise SystemExit(f"the export ended with {process.returncode} while at {stage!r}:\n{said}")
    return int(usage.ru_maxrss) * 1024


def measure_export(run: Path, rounds: int) -> BenchRecord:
    """Export again and again; the first round fills the operating system's file cache and is not counted."""
    clock, peaks = WallClock(), list[int]()
    monitor = SystemMonitor(clock)

    def one_round(_: int, timer: StageTimer) -> None:
        with tempfile.TemporaryDirectory() as folder:
            peaks.append(export(run, Path(folder, "model.onnx"), timer))
        subprocess.run(IMPORT, check=True)
        timer.lap(IMPORT_ONLY)
        monitor.sample()

    taken = measure_runs(one_round, rounds, warmup=1, clock=clock)
    return BenchRecord(
        "Export of a trained network with its proof on eight phantoms",
        describe_machine(PACKAGES),
        {"run": run.name, "optimize": "fast", "proven on": "8 phantoms", "rounds": rounds},
        {},
        Samples(taken.warmup, taken.counted, excluded_stages=(IMPORT_ONLY,)),
        {"export": (STARTUP, *STAGES.values())},
        surroundings=tuple(monitor.snapshots),
        resources={"peak_resident_bytes": max(peaks)},
    )


def report(record: BenchRecord) -> None:
    """Median of each stage and of the whole, in seconds, and the largest peak of memory."""
    for name, taken in record.series().items():
        print(f"{name:40} {statistics.median(taken) / 1e3:6.1f} s  ({min(taken) / 1e3:.1f} to {max(taken) / 1e3:.1f})")
    print(f"peak resident memory {(record.resources['peak_resident_bytes'] or 0) / 1e6:.0f} MB")


def main() -> None:
    """Measure the run named."""
    record = measure_export(*parse_arguments(str(__doc__), ROUNDS))
    report(record)
    save_record(record, "export")


if __name__ == "__main__":
    main()
