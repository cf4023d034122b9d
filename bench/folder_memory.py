"""Does memory stay flat over a thousand scans?

    python -m bench.folder_memory [FOLDER]

A thousand links to the real scans (or phantoms) through `predict_many`; resident memory after every fiftieth. Kept in
bench/results/folder_memory.json. (tests/pipeline/test_folder.py does the same with tiny scans and a tiny network.)
"""

import sys
import tempfile
from pathlib import Path

from bench.folder import link_repeatedly
from bench.save_record import save_record
from bench.scans import resolve_scans
from ct3d_edge import load_model
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import read_resident_bytes
from ct3d_edge.system.machine import describe_machine

SCANS = 1000
EVERY = 50
PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal")


def resident_mb() -> float:
    """Memory of this process that is in use now."""
    return (read_resident_bytes() or 0) / 1e6


def main() -> None:
    """Run on the folder named, the real scans, or phantoms."""
    with tempfile.TemporaryDirectory() as place, load_model(provider="cpu") as model:
        different = resolve_scans(sys.argv[1:2], Path(place))
        sizes = [resident_mb()]
        for number, record in enumerate(model.predict_many(link_repeatedly(different, Path(place), SCANS)), 1):
            if not record.has_prediction:
                raise SystemExit(f"{record.scan} has no answer")
            if number % EVERY == 0:
                sizes.append(resident_mb())
                print(f"{number:5} scans: {sizes[-1]:.0f} MB", flush=True)
        plan = model.make_schedule(SCANS).describe()
    save_record(make_record(sizes, plan, len(different)), "folder_memory")


def make_record(sizes: list[float], plan: str, different: int) -> BenchRecord:
    """The sizes in MB, the first before any scan, with what they depend on."""
    conditions = {"scans": SCANS, "different": different, "plan": plan, "every": EVERY, "resident_mb": sizes}
    question = "Resident memory over a thousand scans"
    return BenchRecord(question, describe_machine(PACKAGES), conditions, {}, Samples({}, {}))


if __name__ == "__main__":
    main()
