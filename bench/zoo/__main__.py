"""What does every form of file make of the networks that people train: exit code, error, time, memory, size?

    python -m bench.zoo [--size small|full] [--rounds N] [--only NAME,NAME] [--forms FORM,FORM] [--out FILE]

Each network is built with weights of a fixed seed and exported by `ct3d-edge export --optimize none`; the other forms
are made from that file by `ct3d-edge optimize`. Errors are differences of the logit from Keras in float64. All files of
a network run in turn on two threads; memory is what opening and running add to a fresh process. Every sample goes to
FILE, bench/results/zoo.json by default.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.compiler import added_memory
from bench.markdown import markdown_table
from bench.save_record import RESULTS
from bench.sessions import PACKAGES, THREADS, open_session, run_session
from bench.zoo.forms import FORMS, PLAIN, write_forms
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.system.machine import describe_machine

ROUNDS = 10


def parse_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.zoo", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", type=lambda text: text.split(","), default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo.json")
    parser.add_argument("--forms", type=lambda text: text.split(","), default=list(FORMS))
    return parser.parse_args()


def list_architectures() -> list[str]:
    """Names of the zoo, from a process of its own: Keras and its memory stay out of this one."""
    code = (
        "from ct3d_edge.keras_backend import import_keras; import_keras(); "
        "from bench.zoo.catalogue import ARCHITECTURES; print(*ARCHITECTURES)"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def measure_architecture(name: str, options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Samples | None]:
    """Rows of one network, a form each, and the times of the files that were written."""
    command = [sys.executable, "-m", "bench.zoo.reference", name, options.size, str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    done = write_forms(folder, tuple(options.forms))
    rows: dict[str, Any] = {form: {"exit": outcome.exit_code, "error": outcome.error} for form, outcome in done.items()}
    files = {form: folder / f"{form}.onnx" for form, outcome in done.items() if outcome.exit_code == 0}
    if not files:
        return rows, None
    inputs, logits = np.load(folder / "inputs.npy"), np.load(folder / "logits.npy")
    sessions = {form: open_session(file.read_bytes()) for form, file in files.items()}
    for form, session in sessions.items():
        probabilities = np.concatenate([run_session(session, volume[None]) for volume in inputs]).astype(np.float64)
        rows[form]["logit_error"] = float(np.abs(np.log(probabilities / (1 - probabilities)) - logits).max())
        rows[form]["file_bytes"] = files[form].stat().st_size
    samples = measure_interleaved(
        {form: partial(run_session, session, inputs[:1]) for form, session in sessions.items()}, options.rounds
    )
    del sessions
    for form, file in files.items():
        rows[form]["memory_bytes"] = added_memory(file, 1)["peak"]
    return rows, samples


def make_table(rows: dict[str, dict[str, Any]], times: dict[str, tuple[float, ...]]) -> str:
    """A line a network and form; factors are against the plain file of the same network."""
    lines: list[tuple[str, ...]] = []
    for network, forms in rows.items():
        plain = forms[PLAIN]
        for form, row in forms.items():
            if row["exit"]:
                lines.append((network, form, str(row["exit"]), row["error"], "", "", ""))
                continue
            pairs = zip(times[f"{network}: {form}"], times[f"{network}: {PLAIN}"], strict=True)
            factors = [
                statistics.median(own / other for own, other in pairs),
                row["memory_bytes"] / plain["memory_bytes"],
                row["file_bytes"] / plain["file_bytes"],
            ]
            amounts = (
                f"{statistics.median(times[f'{network}: {form}']):.1f}",
                f"{row['memory_bytes'] / 1e6:.0f}",
                f"{row['file_bytes'] / 1e6:.1f}",
            )
            cells = [f"{amount} ({factor:.2f})" for amount, factor in zip(amounts, factors, strict=True)]
            lines.append((network, form, "0", f"{row['logit_error']:.1e}", *cells))
    columns = (
        "network",
        "form",
        "exit",
        "error of the logit",
        "ms (factor)",
        "memory, MB (factor)",
        "file, MB (factor)",
    )
    return markdown_table(columns, lines)


def main() -> None:
    """Measure the zoo and print its table."""
    options = parse_options()
    names = options.only or list_architectures()
    rows: dict[str, dict[str, Any]] = {}
    counted: dict[str, tuple[float, ...]] = {}
    warmup: dict[str, tuple[float, ...]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows[name], taken = measure_architecture(name, options, Path(folder))
        if taken is not None:
            counted |= {f"{name}: {form}": times for form, times in taken.counted.items()}
            warmup |= {f"{name}: {form}": times for form, times in taken.warmup.items()}
        print(json.dumps({name: rows[name]}), file=sys.stderr, flush=True)
    print(make_table(rows, counted))
    conditions = {"size": options.size, "threads": THREADS, "batch": 1, "rows": rows}
    question = "Every form of file of the networks of the zoo: exit code, error, time, memory, size"
    samples = Samples(warmup, counted)
    BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples).save(options.out)
    print(f"every sample: {options.out}")


if __name__ == "__main__":
    main()
