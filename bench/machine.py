"""Where does a scan's time go here, how far is each layer from the limit, and what do threads, batches, rates change?

    python -m bench.machine [--model FILE] [--input FOLDER]

Runs `ct3d-edge bench` three times as anybody would, on the CPU, with its own model and phantom unless others are named;
the records are bench/results/layers.json, sweep.json and rates.json.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench.save_record import RESULTS
from ct3d_edge.system.machine import count_usable_cores

BENCH = [sys.executable, "-c", "from ct3d_edge.cli.app import main; main()", "bench", "--provider", "cpu"]
BATCHES = (1, 2, 4, 8)


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all of them."""
    return sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})


def bench_arguments(cores: int) -> dict[str, list[str]]:
    """Name of the record to what `bench` is asked."""
    return {
        "layers": ["--profile", "--resources", "--runs", "64"],
        "sweep": [
            *("--sweep", f"threads={','.join(map(str, thread_counts(cores)))}"),
            *("--sweep", f"batch={','.join(map(str, BATCHES))}"),
            *("--runs", "20"),
        ],
        "rates": ["--scenario", "server", "--runs", "130"],
    }


def main() -> None:
    """Ask all questions; a failure ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--input", type=Path)
    given = [word for name, path in vars(parser.parse_args()).items() if path for word in (f"--{name}", str(path))]
    for name, asked in bench_arguments(count_usable_cores()).items():
        done = subprocess.run([*BENCH, *given, *asked, "--out", str(RESULTS / f"{name}.json")], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
