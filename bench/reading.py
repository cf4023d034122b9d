"""What does reading and preprocessing a .nii.gz cost: time against bare decompression, and memory?

    python -m bench.reading [FOLDER ...]

Time: ours and the bare decompression of the same file in turn in one process, and beside them all that a run of
`ct3d-edge infer` does before the network (hash and passport too). Memory: what the most resident memory during one
scan exceeds the memory before it by, each time in a fresh process that has imported everything (Linux). Keeps every
sample in bench/results/reading.json, without the names of the files. Without folders it takes the real scans beside
the checkout, or phantoms.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.preprocessing import decompress, read_and_preprocess, select_compressed
from bench.save_record import save_record
from bench.scans import REAL_SCANS, resolve_scans
from ct3d_edge.contract import Contract
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.latency.measure import Samples, WallClock, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import interference
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.latency.system_monitor import SystemMonitor, read_peak_bytes, read_resident_bytes
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.nifti import NiftiScan
from ct3d_edge.system.machine import describe_machine

ROUNDS = 41
PROCESSES = 5
PACKAGES = ("ct3d-edge", "numpy", "nibabel", "isal")
MEMORY_OF = "--memory-of"


def prepare_as_infer(path: Path) -> None:
    """All that a run of infer does with a scan before the network has it."""
    if prepare_scan(path, Contract(), checker=QualityChecker(Contract())).model_input is None:
        raise SystemExit(f"{path} cannot be read")


METHODS: dict[str, Callable[[Path], object]] = {
    "bare igzip": decompress,
    "read and preprocess": read_and_preprocess,
    "with hash and passport": prepare_as_infer,
}


def measure_memory_mb(path: Path) -> float:
    """What reading and preparing adds at most to the memory of a process of its own."""
    command = [sys.executable, "-m", "bench.reading", MEMORY_OF, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_added_mb(path: Path) -> float:
    """The same, of this process."""
    Path("/proc/self/clear_refs").write_text("5")  # has VmHWM begin anew (proc_pid_clear_refs(5))
    before = read_resident_bytes() or 0
    prepare_as_infer(path)
    return ((read_peak_bytes() or 0) - before) / 1e6


def measure_cpu_ms(work: Callable[[], object]) -> float:
    """CPU time of all threads together, those included that only end their waiting afterwards."""
    start = time.process_time()
    work()
    time.sleep(0.15)
    return (time.process_time() - start) * 1e3


def measure(path: Path) -> tuple[Samples, dict[str, object]]:
    """Durations of one scan, and what else is known of it."""
    samples = measure_interleaved({name: partial(way, path) for name, way in METHODS.items()}, ROUNDS)
    scan = NiftiScan(path)
    return samples, {
        "shape": scan.shape,
        "dtype": str(scan.dtype),
        "file_mb": path.stat().st_size / 1e6,
        "added_mb": [measure_memory_mb(path) for _ in range(PROCESSES)],
        "cpu_ms": {name: [measure_cpu_ms(partial(way, path)) for _ in range(5)] for name, way in METHODS.items()},
    }


def report(name: str, samples: Samples, facts: dict[str, object]) -> None:
    """A line a scan."""
    bare = samples.counted["bare igzip"]
    print(f"{name} {facts['shape']}: bare igzip {statistics.median(bare):.1f} ms", end="")
    for way in list(METHODS)[1:]:
        taken = samples.counted[way]
        ratio = percentile([a / b for a, b in zip(taken, bare, strict=True)], 50)
        print(
            f"; {way} {statistics.median(taken):.1f} ms = {ratio.value:.3f} ({ratio.low:.3f}..{ratio.high:.3f})", end=""
        )
    print(f"; adds {max(facts['added_mb']):.1f} MB", flush=True)  # type: ignore[call-overload]


def measure_scans(scans: list[Path]) -> BenchRecord:
    """Every scan; contestants are named ``way, scan N``."""
    warmup: dict[str, tuple[float, ...]] = {}
    counted: dict[str, tuple[float, ...]] = {}
    about = {}
    monitor = SystemMonitor(WallClock())
    for number, path in enumerate(scans, 1):
        name = f"scan {number}"
        samples, about[name] = measure(path)
        warmup |= {f"{way}, {name}": taken for way, taken in samples.warmup.items()}
        counted |= {f"{way}, {name}": taken for way, taken in samples.counted.items()}
        report(name, samples, about[name])
        monitor.sample()
    question = "Reading and preprocessing a .nii.gz: time against bare decompression, and memory"
    conditions = {"rounds": ROUNDS, "scans": about}
    print("\n".join(interference(monitor.snapshots)))
    samples = Samples(warmup, counted)
    seen = tuple(monitor.snapshots)
    return BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples, {}, "in turn", seen)


def main() -> None:
    """Run on the folders named, the real scans, or phantoms."""
    if sys.argv[1:2] == [MEMORY_OF]:
        print(measure_added_mb(Path(sys.argv[2])))
        return
    with tempfile.TemporaryDirectory() as place:
        scans = resolve_scans(sys.argv[1:], Path(place), [REAL_SCANS, REAL_SCANS.parent / "full"])
        save_record(measure_scans(select_compressed(scans)), "reading")


if __name__ == "__main__":
    main()
