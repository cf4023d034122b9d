"""Do the maps point at what is ill, and what does the output that they need cost?

    python -m bench.explanation MODEL.onnx [PHANTOMS]

On abnormal phantoms of seeds that no training used, in two questions. Does the brightest voxel of the Grad-CAM map lie
in a lesion (pointing game; Zhang et al. 2018, arXiv 1608.00507)? How much do the voxels above half of the brightest and
the lesions overlap (Dice)? The baseline points at the whole lung: its chance to hit a lesion is the lesions' share of
it. Then the file against itself without the output, in turn. Everything goes to bench/results/explanation.json.
"""

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
from numpy.typing import NDArray
from scipy import ndimage

from bench.save_record import save_record
from bench.sessions import open_session, run_session
from ct3d_edge import load_model
from ct3d_edge.conversion.extra_outputs.gradcam_output import remove_features_output
from ct3d_edge.datasets.phantoms.phantom import las_affine, make_phantom
from ct3d_edge.gradcam.resample_to_scan import save_map
from ct3d_edge.inference.model import Model
from ct3d_edge.latency.measure import measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.system.machine import describe_machine

FIRST_SEED, PHANTOMS, SHAPE = 90_001, 40, (256, 256, 40)
ROUNDS = 15
SOFT_TISSUE_HU = -300
BRIGHT = 0.5
PACKAGES = ("ct3d-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "scipy")

Mask = NDArray[np.bool_]


def segment_lung(hu: NDArray[np.int16], lesions: Mask) -> Mask:
    """Air inside the body, slice by slice, and what is ill in it."""
    body = np.stack([ndimage.binary_fill_holes(hu[..., z] > SOFT_TISSUE_HU) for z in range(hu.shape[2])], axis=2)
    return np.asarray(ndimage.binary_opening(body & (hu < SOFT_TISSUE_HU), iterations=2) | lesions)


def dice(a: Mask, b: Mask) -> float:
    """Overlap of two masks, 2 |a and b| / (|a| + |b|)."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def evaluate_map(model: Model, seed: int, place: Path) -> dict[str, float]:
    """One abnormal phantom: its map, from a file as `infer --gradcam-dir` writes it, beside its lesions."""
    phantom = make_phantom(seed, abnormal=True, shape=SHAPE)
    scan, drawn = place / "scan.nii.gz", place / "map.nii.gz"
    nib.Nifti1Image(phantom.hu, las_affine(phantom.hu.shape, phantom.spacing)).to_filename(scan)
    (analysis,) = model.iter_results([scan], model.make_schedule(1))
    explanation = model.compute_gradcam_map(analysis)
    if explanation is None:
        raise SystemExit(f"phantom {seed} has no answer: {analysis.record}")
    save_map(explanation.to_scan_grid(open_scan(scan)), drawn)
    seen = np.asarray(nib.load(drawn).dataobj)
    lung = segment_lung(phantom.hu, phantom.lesions)
    return {
        "seed": seed,
        "hit": float(phantom.lesions[np.unravel_index(seen.argmax(), seen.shape)]),
        "chance_in_lung": float(phantom.lesions.sum() / lung.sum()),
        "dice": dice(seen > BRIGHT * seen.max(), phantom.lesions),
        "dice_of_lung": dice(lung, phantom.lesions),
    }


def main() -> None:
    """Judge the maps, time the output."""
    path = Path(sys.argv[1])
    number = int(sys.argv[2]) if len(sys.argv) > 2 else PHANTOMS
    with tempfile.TemporaryDirectory() as place, load_model(path, "cpu", gradcam=True) as model:
        found = [evaluate_map(model, FIRST_SEED + n, Path(place)) for n in range(number)]
        volume = make_phantom_volume(1, model.contract.shape).reshape(1, *model.contract.input_shape)
    for figure in ("hit", "chance_in_lung", "dice", "dice_of_lung"):
        print(f"{figure:16} {statistics.mean(one[figure] for one in found):.3f}")
    with_output = onnx.load(path)
    files = {"with": with_output, "without": remove_features_output(with_output)}
    sessions = {name: open_session(proto.SerializeToString()) for name, proto in files.items()}
    samples = measure_interleaved({name: partial(run_session, one, volume) for name, one in sessions.items()}, ROUNDS)
    pairs = zip(samples.counted["with"], samples.counted["without"], strict=True)
    print(f"time with the output over without: {statistics.median(a / b for a, b in pairs):.3f}")
    question = "Maps against lesions of phantoms, and the cost of the output that they need"
    conditions = {"phantoms": found, "shape": list(SHAPE)}
    save_record(BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples), "explanation")


if __name__ == "__main__":
    main()
