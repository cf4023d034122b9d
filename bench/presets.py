"""Which way of learning, or which network, is better on the same scans, in the same number of epochs?

    python -m bench.presets [PLAN.toml] [--work DIR] [--only VARIANT ...]

Follows a plan (bench/plans/presets.toml or networks.toml): every variant with every seed, which draws the split, the
first weights and the order. Each network then predicts the same fresh phantoms; their scores are kept in
bench/results, and the figures are made from them. Runs that are done are not repeated; an interrupted one is resumed.
``--only`` trains some variants, with their teachers if those are not in DIR, and leaves the others as recorded.
"""

import argparse
import json
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.keras_backend import import_keras
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.nifti import NiftiScan
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.system.machine import describe_machine

if TYPE_CHECKING:
    from ct3d_edge.training.history import EpochDone

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ct3d-edge", "keras", "tensorflow", "numpy", "scipy")
NOT_OF_PRESET = ("name", "preset", "network", "teacher")
"""What a variant says besides its changes of a preset."""


@dataclass(frozen=True)
class TestScans:
    """Prepared scans that no variant has seen."""

    volumes: NDArray[np.float32]
    truth: tuple[int, ...]


def make_phantoms(work: Path, count: int, seed: int, shape: tuple[int, int, int]) -> Path:
    """Folder with the two classes; made under another name first, so that it is complete or not there."""
    place = work / f"phantoms-{seed}-{count}"
    if not place.is_dir():
        part = place.with_suffix(".part")
        synthesise(part, count, seed, shape=shape)
        part.rename(place)
    return place / "scans"


def prepare_test(folder: Path, contract: Contract) -> TestScans:
    """Read the test scans once for all variants."""
    scans = find_scans([folder])
    volumes = np.stack([preprocess(NiftiScan(scan), contract).volume for scan in scans])
    return TestScans(volumes, tuple(int(scan.parent.name == "abnormal") for scan in scans))


def train_one(plan: dict[str, Any], variant: dict[str, Any], seed: int, folder: Path, work: Path) -> Path:
    """One variant with one seed, distilled from the plan's variant ``teacher`` of that seed if it names one."""
    from ct3d_edge.distillation.distill import distill
    from ct3d_edge.training.fit import train
    from ct3d_edge.training.presets import PRESETS

    run = name_run(work, variant["name"], seed)
    if (run / "model.keras").is_file():
        return run
    changes = {name: value for name, value in variant.items() if name not in NOT_OF_PRESET}
    preset = replace(PRESETS[variant["preset"]], epochs=plan["epochs"], **changes)
    options: dict[str, Any] = {
        "network": variant.get("network", "tutorial"),
        "seed": seed,
        "cache": work / "cache",
        "resume": (run / "split.json").is_file(),
        "on_epoch": partial(print_epoch, run.name),
    }
    if "teacher" in variant:
        teacher = next(other for other in plan["variant"] if other["name"] == variant["teacher"])
        distill(train_one(plan, teacher, seed, folder, work), folder, run, preset, **options)
    else:
        train(folder, run, preset, size=tuple(plan["size"]), validation=plan["validation"], **options)
    return run


def name_run(work: Path, variant: str, seed: int) -> Path:
    """The folder of a run."""
    return work / f"{variant.replace(' ', '-')}-{seed}"


def print_epoch(run: str, event: "EpochDone") -> None:
    """One line an epoch."""
    record = event.record
    print(
        f"{run} {record.epoch}: loss {record.loss:.3f} val_loss {record.val_loss:.3f} "
        f"val_auc {record.val_auc:.3f} {record.seconds:.0f} s",
        flush=True,
    )


def evaluate_run(run: Path, test: TestScans) -> dict[str, Any]:
    """What a trained network says of the test scans, and how its training went."""
    import keras

    model = keras.saving.load_model(run / "model.keras", compile=False)
    scores = model.predict(test.volumes[..., np.newaxis], batch_size=4, verbose=0)[:, 0]
    return {"scores": [round(float(score), 6) for score in scores], "history": (run / "history.csv").read_text()}


def run_plan(plan: dict[str, Any], work: Path, record_file: Path, only: Collection[str] = ()) -> None:
    """Run the plan, or some variants of it; the record grows with every run."""
    contract = Contract(shape=tuple(plan["size"]))
    folder = make_phantoms(work, plan["scans"], plan["data_seed"], tuple(plan["shape"]))
    fresh = make_phantoms(work, plan["test"]["scans"], plan["test"]["seed"], tuple(plan["shape"]))
    test = prepare_test(fresh, contract)
    # Seed by seed, so that an interrupted plan has compared all variants on some of them.
    order = [(variant["name"], seed) for seed in plan["seeds"] for variant in plan["variant"]]
    variants = {variant["name"]: variant for variant in plan["variant"]}
    runs = read_runs(record_file) if only else {}
    for name, seed in order:
        if only and name not in only:
            continue
        run = train_one(plan, variants[name], seed, folder, work)
        runs[name, seed] = {"variant": name, "seed": seed, **evaluate_run(run, test)}
        record = {"schema": 1, "plan": plan, "machine": describe_machine(PACKAGES), "truth": test.truth}
        done = [runs[key] for key in order if key in runs]
        with atomic_file(record_file) as stream:
            stream.write((json.dumps({**record, "runs": done}, indent=1) + "\n").encode())


def read_runs(record_file: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Variant and seed to what a record says of the run; nothing where there is no record."""
    if not record_file.is_file():
        return {}
    return {(run["variant"], run["seed"]): run for run in json.loads(record_file.read_text())["runs"]}


def main() -> None:
    """Follow the plan named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, nargs="?", default=Path(__file__).parent / "plans" / "presets.toml")
    parser.add_argument("--work", type=Path, default=Path("build/presets"), help="for phantoms and runs")
    parser.add_argument("--out", type=Path, help="the record; else bench/results/PLAN.json")
    parser.add_argument("--only", nargs="+", default=(), metavar="VARIANT", help="train these, keep what is recorded")
    arguments = parser.parse_args()
    plan = tomllib.loads(arguments.plan.read_text())
    if unknown := set(arguments.only) - {variant["name"] for variant in plan["variant"]}:
        parser.error(f"{arguments.plan} has no variant {', '.join(sorted(unknown))}")
    import_keras()
    arguments.work.mkdir(parents=True, exist_ok=True)
    record = arguments.out or RESULTS / f"{arguments.plan.stem}.json"
    run_plan(plan, arguments.work, record, arguments.only)
    print(f"every score: {record}")


if __name__ == "__main__":
    main()
