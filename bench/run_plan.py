"""Run a plan of peers: the same work by ct3d-edge and by what a user would pick instead.

    python -m bench.run_plan [PLAN.toml] [--dry-run] [--groups N] [--rounds N] [--scans FOLDER] [--network model.keras]
        [--out RECORD.json]

Without a plan, bench/plans/gpu.toml beside a working NVIDIA driver, else bench/plans/peers.toml. Peers are nobody's
dependency: what is not installed is named and left out (`pip install torch openvino nncf monai torchio` for all).
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.comparison import PeerComparison
from bench.comparison_table import describe_processor
from bench.make_fixture import make_fixture
from bench.plan import ComparisonPlan, load_plan
from bench.scans import REAL_SCANS
from ct3d_edge.errors import Ct3dError
from ct3d_edge.latency.record import BenchRecord, PartialResultError
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.scan.discovery import find_scans

HERE = Path(__file__).parent
MAX_SCANS = 2


def default_plan() -> Path:
    """The plan for this machine."""
    return HERE / "plans" / ("gpu.toml" if shutil.which("nvidia-smi") else "peers.toml")


def select_scans(folder: Path | None) -> list[Path]:
    """The first scans of a folder, or real ones beside the checkout; none if there are none."""
    place = folder or REAL_SCANS
    return find_scans([place])[:MAX_SCANS] if folder or place.is_dir() else []


def override_amounts(plan: ComparisonPlan, arguments: argparse.Namespace) -> ComparisonPlan:
    """The plan with the amounts of the command line in place of its own."""
    asked = {name: getattr(arguments, name) for name in ("groups", "rounds")}
    return replace(plan, **{name: value for name, value in asked.items() if value is not None})


def parse_positive(text: str) -> int:
    """A number of groups or rounds."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def print_summary(record: BenchRecord) -> None:
    """The processor, then one line a contestant: median, precision, difference, or why it did not run."""
    print(describe_processor(record.environment))
    facts = record.conditions["contestants"]
    for key, samples in record.samples.counted.items():
        median = percentile(samples, 50).value
        known = facts[key]
        print(
            f"{key:60} {median:9.1f} ms, {len(samples)} runs, {known['precision']}, largest difference "
            f"{known['difference']:.1e}"
        )
    for key, reason in record.conditions["left_out"].items():
        print(f"{key:60} left out: {reason}")
    if record.incomplete:
        print(f"incomplete: {record.incomplete}")


def run_comparison(arguments: argparse.Namespace) -> None:
    """Make the fixture, run the comparison, write the record."""
    plan_file = arguments.plan or default_plan()
    plan = override_amounts(load_plan(plan_file), arguments)
    out = arguments.out or HERE / "results" / f"{plan_file.stem}.json"
    with tempfile.TemporaryDirectory() as place:
        print("making files of the network, scans, and the answers expected", flush=True)
        fixture = make_fixture(Path(place, "fixture"), arguments.network, select_scans(arguments.scans))
        try:
            record = PeerComparison(plan, plan_file, fixture, lambda text: print(text, flush=True)).run(
                dry=arguments.dry_run
            )
        except PartialResultError as broken:
            broken.record.save(out)
            print(f"wrote {out}, incomplete: {broken}")
            raise broken.__cause__ or broken from None
    print_summary(record)
    if not arguments.dry_run:
        record.save(out)
        print(f"every sample: {out}")


def main() -> None:
    """Run the plan named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, nargs="?")
    parser.add_argument("--dry-run", action="store_true", help="open and check everybody, run once, write nothing")
    parser.add_argument(
        "--groups", type=parse_positive, help="fresh processes of each contestant, instead of the plan's"
    )
    parser.add_argument("--rounds", type=parse_positive, help="counted rounds in each, instead of the plan's")
    parser.add_argument("--scans", type=Path, help="folder of scans; phantoms where there are none")
    parser.add_argument("--network", type=Path, help="a .keras file")
    parser.add_argument("--out", type=Path, help="the record")
    try:
        run_comparison(parser.parse_args())
    except Ct3dError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
