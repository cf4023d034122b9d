"""What does augmentation cost per scan, against SciPy's obvious calls?

    python -m bench.augmentation

On one phantom at the network's size, in turn in one process: ``scipy.ndimage.rotate`` as the published tutorial
calls it, the same by this project, our small changes, and of those the change of place alone against
``scipy.ndimage.affine_transform``. Checks first that fast and obvious agree, prints medians and ratios, and keeps every
sample in bench/results/augmentation.json. One thread: training augments one scan in each of several.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.save_record import save_record
from ct3d_edge.augmentation.random_affine_intensity import RandomAffineIntensity
from ct3d_edge.augmentation.resample import resample
from ct3d_edge.augmentation.tutorial_rotation import ANGLES, TutorialRotation, rotate
from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.nifti import NiftiScan
from ct3d_edge.system.machine import describe_machine

ROUNDS = 40
TOLERANCE = 1e-5
PACKAGES = ("ct3d-edge", "numpy", "scipy")

# A change of place as `RandomAffineIntensity` draws them: 7 degrees, 5 % larger, planes that lean.
MATRIX = np.array([[0.945, -0.116], [0.116, 0.945], [0.02, -0.015]])
OFFSET = np.array([10.0, -5.0, 1.3])

Volume = NDArray[np.float32]


def rotate_as_published(volume: Volume, angle: int) -> Volume:
    """The tutorial's augmentation, written from its description."""
    return np.asarray(np.clip(ndimage.rotate(volume, angle, reshape=False), 0, 1))


def transform_with_scipy(volume: Volume) -> Volume:
    """The change of place by SciPy's general affine resampling."""
    upright = np.column_stack([MATRIX, [0, 0, 1]])
    return np.asarray(ndimage.affine_transform(volume, upright, OFFSET, order=1, mode="grid-constant"))


def make_volume() -> Volume:
    """A network input."""
    with tempfile.TemporaryDirectory() as place:
        synthesise(Path(place), 4, seed=1)
        return preprocess(NiftiScan(find_scans([Path(place, "scans")])[0]), Contract()).volume


def measure_differences(volume: Volume) -> dict[str, float]:
    """Largest difference between fast and obvious; stops if it is not rounding."""
    found = {
        f"{angle} degrees": float(np.abs(rotate(volume, angle) - rotate_as_published(volume, angle)).max())
        for angle in ANGLES
    }
    found["change of place"] = float(np.abs(resample(volume, MATRIX, OFFSET) - transform_with_scipy(volume)).max())
    if max(found.values()) > TOLERANCE:
        raise SystemExit(f"fast and obvious differ; nothing was timed: {found}")
    return found


def make_peers(volume: Volume) -> dict[str, Callable[[], object]]:
    """What is timed in turn."""
    rng, six_angles, small_changes = np.random.default_rng(0), TutorialRotation(), RandomAffineIntensity()
    return {
        "scipy rotate": lambda: rotate_as_published(volume, int(rng.choice(ANGLES))),
        "six-angles": lambda: six_angles(volume, rng),
        "scipy affine_transform": lambda: transform_with_scipy(volume),
        "change of place": lambda: resample(volume, MATRIX, OFFSET),
        "small-changes": lambda: small_changes(volume, rng),
    }


def report(samples: Samples) -> None:
    """Medians in ms, and medians of the ratios round by round."""
    for name, taken in samples.counted.items():
        print(f"{name:24} {statistics.median(taken):7.1f} ms")
    for slow, fast in (("scipy rotate", "six-angles"), ("scipy affine_transform", "change of place")):
        ratios = [a / b for a, b in zip(samples.counted[slow], samples.counted[fast], strict=True)]
        print(f"{fast}: {statistics.median(ratios):.1f} x faster than {slow}")


def main() -> None:
    """Check, measure, record."""
    volume = make_volume()
    found = measure_differences(volume)
    samples = measure_interleaved(make_peers(volume), ROUNDS)
    report(samples)
    conditions = {
        "rounds": ROUNDS,
        "shape": volume.shape,
        "OPENBLAS_NUM_THREADS": os.environ["OPENBLAS_NUM_THREADS"],
        "largest_difference": found,
    }
    question = "Augmenting a network input: SciPy's calls, the tutorial's augmentation, ours"
    print(f"largest difference {max(found.values()):.1e}")
    record = BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples, arrangement="in turn")
    save_record(record, "augmentation")


if __name__ == "__main__":
    main()
