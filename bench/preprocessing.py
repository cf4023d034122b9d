"""How fast is reading and preprocessing, against the tutorial's path and against bare decompression?

    python -m bench.preprocessing [FOLDER]

Per scan: the tutorial's path (nibabel, SciPy), ours, and the bare decompression of the same file by igzip, in turn
in one process. Prints medians and ratios, checks first that both paths give the same array, and keeps every
sample in bench/results/preprocessing.json. Without a folder it looks for real scans beside the checkout and
otherwise makes phantoms of the same size.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from isal import igzip

from bench.peers import tutorial
from bench.save_record import save_record
from bench.scans import resolve_scans
from ct3d_edge.contract import Contract
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.nifti import NiftiScan
from ct3d_edge.system.machine import describe_machine

ROUNDS = 15
BLOCK = 1 << 18
TOLERANCE = 1e-6
PACKAGES = ("ct3d-edge", "numpy", "scipy", "nibabel", "isal")


def read_and_preprocess(path: Path) -> np.ndarray:
    """A scan file to the network's input, by this project."""
    return preprocess(NiftiScan(path), Contract()).volume


def decompress(path: Path) -> None:
    """Decode a .nii.gz block by block and throw it away: the floor for anything that reads it."""
    with igzip.open(path, "rb") as stream:
        while stream.read(BLOCK):
            pass


def select_compressed(scans: list[Path]) -> list[Path]:
    """Those that igzip can read."""
    return [path for path in scans if path.suffix == ".gz"]


def make_peers(path: Path) -> dict[str, Callable[[], object]]:
    """What is timed in turn on one scan."""
    return {
        "tutorial": lambda: tutorial.preprocess(path),
        "ct3d-edge": lambda: read_and_preprocess(path),
        "bare igzip": lambda: decompress(path),
    }


def measure_folder(scans: list[Path]) -> BenchRecord:
    """Time every scan; stages are named ``contestant, scan``."""
    warmup: dict[str, tuple[float, ...]] = {}
    counted: dict[str, tuple[float, ...]] = {}
    differences = {}
    for path in scans:
        differences[path.name] = float(np.abs(tutorial.preprocess(path) - read_and_preprocess(path)).max())
        if differences[path.name] > TOLERANCE:
            raise SystemExit(f"{path.name}: the two paths differ by {differences[path.name]:.1e}; nothing was timed")
        samples = measure_interleaved(make_peers(path), ROUNDS)
        warmup |= {f"{name}, {path.name}": taken for name, taken in samples.warmup.items()}
        counted |= {f"{name}, {path.name}": taken for name, taken in samples.counted.items()}
        report(path.name, samples, differences[path.name])
    return BenchRecord(
        "Reading and preprocessing a .nii.gz: the tutorial's path, ours, bare decompression",
        describe_machine(PACKAGES),
        {"rounds": ROUNDS, "largest_difference": differences},
        {},
        Samples(warmup, counted),
        arrangement="in turn",
    )


def report(name: str, samples: Samples, difference: float) -> None:
    """One line a scan: medians in ms and medians of the ratios round by round."""
    slow, fast, bare = (samples.counted[key] for key in ("tutorial", "ct3d-edge", "bare igzip"))
    speedup = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
    overhead = statistics.median(a / b for a, b in zip(fast, bare, strict=True))
    medians = "  ".join(f"{key} {statistics.median(taken):7.1f} ms" for key, taken in samples.counted.items())
    print(f"{name:36} {medians}  {speedup:5.1f} x faster  {overhead:4.2f} of igzip  difference {difference:.1e}")


def main() -> None:
    """Run on the folder named, the real scans, or phantoms."""
    with tempfile.TemporaryDirectory() as place:
        save_record(measure_folder(select_compressed(resolve_scans(sys.argv[1:2], Path(place)))), "preprocessing")


if __name__ == "__main__":
    main()
