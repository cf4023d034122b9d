"""Whose 8-bit integers are nearest to float32, and how fast are they: ours, NNCF's, ONNX Runtime's own?

    python -m bench.quantization MODEL.onnx ... [--scans FOLDER] [--rounds N]

Each MODEL is a file as tf2onnx wrote it (`export --optimize none`). Everybody is calibrated on the same eight phantoms
and answers for other phantoms and, with --scans, for scans: the difference of the logit from that of the file in
float32. The contestants are those of bench/plans/int8.toml, each in a process of its own, timed in turn. Every sample
goes to bench/results/int8_MODEL.json.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.comparison import PeerComparison
from bench.comparison_table import describe_processor
from bench.fixture import KINDS, Fixture
from bench.make_fixture import make_int8_files
from bench.markdown import markdown_table
from bench.plan import load_plan
from bench.save_record import save_record
from bench.sessions import open_session, run_session
from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity.parity_data import (
    NetworkInputs,
    load_calibration_data,
    load_parity_dataset,
)
from ct3d_edge.conversion.passes.pipeline import optimize_graph
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.modelfile.model_file import ModelFile, attach_metadata, load_model_file
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.temperature_scaling import logit

PLAN = Path(__file__).parent / "plans" / "int8.toml"
EXTRA_SEEDS = range(41_000, 41_012)
"""Seeds far from those of training, parity check and calibration."""

Volumes = NDArray[np.float32]


def load_volumes(contract: Contract, scans: Path | None) -> dict[str, Volumes]:
    """Network inputs ``(n, W, H, D)`` by what they are."""
    made = {
        "parity check": load_parity_dataset(None, contract).volumes,
        "further phantoms": NetworkInputs((), EXTRA_SEEDS, contract, "comparison"),
    }
    if scans:
        made["scans"] = NetworkInputs(tuple(find_scans([scans])), range(0), contract, "comparison")
    return {name: np.stack(list(volumes)) for name, volumes in made.items()}


def write_fixture(folder: Path, model: ModelFile, volumes: dict[str, Volumes]) -> Fixture:
    """What contestants of the plan are given."""
    fixture = Fixture(folder)
    plain = onnx.ModelProto.FromString(model.data)
    calibration = load_calibration_data(None, None, model.contract)
    calibration = replace(calibration, volumes=list(calibration))
    np.save(folder / "calibration.npy", np.stack(list(calibration.volumes)))
    files = {"tf2onnx": plain, "fast": optimize_graph(plain, "fast").proto}
    files |= make_int8_files(plain, model.contract, calibration)
    for name, proto in files.items():
        attach_metadata(proto, model.contract, model.golden, {})
        (folder / f"{name}.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    running = open_session(model.data)
    every = np.concatenate(list(volumes.values()))
    np.save(folder / "volumes.npy", every)
    answers = [run_session(running, volume.reshape(1, *model.contract.input_shape)) for volume in every]
    np.save(folder / f"{KINDS[0]}.npy", np.concatenate(answers))
    (folder / "scans").mkdir()
    return fixture


def compare(path: Path, scans: Path | None, rounds: int | None) -> BenchRecord:
    """Run the plan for one file; the conditions of the record have the differences of the logit."""
    plan = load_plan(PLAN)
    plan = replace(plan, rounds=rounds or plan.rounds)
    model = load_model_file(path)
    volumes = load_volumes(model.contract, scans)
    with tempfile.TemporaryDirectory() as folder:
        fixture = write_fixture(Path(folder), model, volumes)
        record = PeerComparison(plan, PLAN, fixture, lambda text: print(text, flush=True)).run()
        expected = logit(fixture.answers(KINDS[0]).reshape(len(fixture.volumes()), -1)[:, -1].astype(np.float64))
    ends = np.cumsum([len(part) for part in volumes.values()])
    for known in record.conditions["contestants"].values():
        found = logit(np.array(known.pop("answers"), np.float64).reshape(len(expected), -1)[:, -1])
        parts = np.split(found - expected, ends[:-1])
        known["logit_difference"] = {name: part.tolist() for name, part in zip(volumes, parts, strict=True)}
    return replace(
        record, conditions={**record.conditions, "subject": path.name, "network input": model.contract.shape}
    )


def describe(record: BenchRecord) -> str:
    """The processor, and a table: time, then largest and root mean square difference of the logit."""
    facts = record.conditions["contestants"]
    kinds = list(next(iter(facts.values()))["logit_difference"])
    rows = []
    for key, taken in record.samples.counted.items():
        differences = [np.abs(facts[key]["logit_difference"][kind]) for kind in kinds]
        cells = [f"{part.max():.3f} ({np.sqrt((part**2).mean()):.3f})" for part in differences]
        rows.append([facts[key]["name"], facts[key]["precision"], f"{percentile(taken, 50).value:.0f}", *cells])
    return f"{describe_processor(record.environment)}\n\n{markdown_table(('', 'computes in', 'ms', *kinds), rows)}"


def main() -> None:
    """Compare the files named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--scans", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    for path in arguments.models:
        record = compare(path, arguments.scans, arguments.rounds)
        print(f"\n{path.name}: difference of the logit, largest (root mean square)\n\n{describe(record)}")
        save_record(record, f"int8_{path.stem}")


if __name__ == "__main__":
    main()
