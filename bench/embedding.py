"""What does preprocessing inside the model file cost, against NumPy's and the network alone?

    python -m bench.embedding

On a phantom of 512 x 512 x 40 in memory, in turn in one process. Checks first that both answer alike, prints medians
and the ratio, and keeps every sample in bench/results/embedding.json.
"""

import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.save_record import save_record
from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.datasets.phantoms.phantom import las_affine, make_phantom
from ct3d_edge.latency.measure import measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file, parse_model_file
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import describe_machine

ROUNDS = 20
LIMIT = 2e-5


def main() -> None:
    """Check, measure, record."""
    phantom = make_phantom(30_000, abnormal=True, shape=(512, 512, 40))
    scan = Volume(phantom.hu, affine=las_affine(phantom.hu.shape, phantom.spacing))
    model = load_model_file(default_model_path())
    whole = parse_model_file(model.path, fuse_io(model).SerializeToString(), stored_voxels=True)
    voxels = np.ascontiguousarray(scan.stored.T)
    with Runner(model, SessionRequest("cpu")) as network, Runner(whole, SessionRequest("cpu")) as inside:
        contestants: dict[str, Callable[[], NDArray[np.float64]]] = {
            "NumPy and network": lambda: network.infer(preprocess(scan, model.contract).volume[None])[0],
            "all in the file": lambda: inside.infer_stored(voxels, 1, 0),
        }
        expected, found = (run() for run in contestants.values())
        difference = float(np.abs(expected - found).max())
        if not difference <= LIMIT:
            raise SystemExit(f"the two differ by {difference:.1e}; nothing was timed")
        samples = measure_interleaved(contestants, ROUNDS)
    outside, within = samples.counted.values()
    for name, taken in samples.counted.items():
        print(f"{name:20} {statistics.median(taken):7.1f} ms")
    print(f"ratio {statistics.median(b / a for a, b in zip(outside, within, strict=True)):.3f}")
    conditions = {"rounds": ROUNDS, "shape": scan.shape, "largest_difference": difference}
    record = BenchRecord(
        "A scan in memory to its probability: NumPy's preprocessing and the network, or all in the file",
        describe_machine(("ct3d-edge", "numpy", "onnxruntime-gpu")),
        conditions,
        {},
        samples,
        arrangement="in turn",
    )
    save_record(record, "embedding")


if __name__ == "__main__":
    main()
