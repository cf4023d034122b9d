"""Write records of measurements to `bench/results`."""

from pathlib import Path

from ct3d_edge.latency.record import BenchRecord

RESULTS = Path(__file__).parent / "results"


def save_record(record: BenchRecord, name: str) -> None:
    """Write ``bench/results/NAME.json`` and print its path."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    record.save(file)
    print(f"every sample: {file}")
