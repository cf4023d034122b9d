"""How many scans a second does `serve` predict, beside `infer` on the same folder, and does its memory stay flat?

    python -m bench.serve [FOLDER ...] [--model FILE] [--rounds N] [--requests N]

Contestants in turn: `infer` with its model loaded and the schedule that it chooses, and one server process with 1, 4
and 16 clients, each with one connection, that send the files of the folder as bytes. Then as many requests as asked
for, from 4 clients, with the resident memory of the server after every twentieth part. Keeps every sample in
bench/results/serve.json.
"""

import argparse
import http.client
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from bench.folder import link_repeatedly
from bench.save_record import save_record
from bench.scans import resolve_scans
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import Model, open_model
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.system.machine import describe_machine

SCANS = 40
ROUNDS = 18
"""With 40 scans, 720 requests: p99 needs 662."""

CLIENTS = (1, 4, 16)
MEMORY_CLIENTS = 4
MEMORY_SAMPLES = 20
PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "starlette", "uvicorn", "h11")

COMMAND = [sys.executable, "-c", "from ct3d_edge.cli.app import main; main()", "serve", "--port", "0", "-p", "cpu"]
START_S = 120


@dataclass
class RunningServer:
    """A server process and the latencies of the requests that it answered."""

    process: "subprocess.Popen[bytes]"
    port: int
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def resident_mb(self) -> float:
        """Memory of the process that is in use now (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1e3

    def predict_folder(self, scans: Sequence[Path], clients: int) -> None:
        """Send all scans; each client sends the next one of the list when its last one was answered."""
        waiting: SimpleQueue[Path | None] = SimpleQueue()
        for each in (*scans, *[None] * clients):
            waiting.put(each)
        with ThreadPoolExecutor(clients) as pool:
            parts = [iter(waiting.get, None)] * clients
            latencies = list(itertools.chain.from_iterable(pool.map(self._predict_part, parts)))
        self.latencies_ms.setdefault(name_of(clients), []).extend(latencies)

    def _predict_part(self, scans: Iterator[Path]) -> list[float]:
        latencies = []
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)) as connection:
            for scan in scans:
                begun = time.perf_counter()
                connection.request("POST", "/v1/scans", scan.read_bytes())
                answer = connection.getresponse()
                record = json.load(answer)
                if answer.status != 200:
                    raise SystemExit(f"{scan} has no answer: {record}")
                latencies.append((time.perf_counter() - begun) * 1e3)
        return latencies


def name_of(clients: int) -> str:
    """Of a contestant."""
    return f"serve, {clients} client{'s' if clients > 1 else ''}"


@contextmanager
def run_server(model: Path | None) -> Iterator[RunningServer]:
    """A server on a free port."""
    with tempfile.NamedTemporaryFile() as log:
        words = [*COMMAND, *(["--model", str(model)] if model else [])]
        process = subprocess.Popen(words, stderr=log)
        try:
            yield RunningServer(process, wait_for_port(process, Path(log.name)))
        finally:
            process.terminate()
            process.wait()


def wait_for_port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """The port that the log of a new server names."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"serving \S+ at http://\S+?:(\d+):", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise SystemExit(f"the server did not start: {log.read_text()}")


def measure_rates(server: RunningServer, model: Model, scans: Sequence[Path], rounds: int) -> Samples:
    """The time that each contestant takes for the folder; the first round is not counted."""

    def infer() -> None:
        schedule = model.make_schedule(len(scans))
        failed = [each.record.scan for each in model.iter_results(scans, schedule) if not each.record.has_prediction]
        if failed:
            raise SystemExit(f"{failed[0]} has no answer")

    served = {name_of(n): lambda n=n: server.predict_folder(scans, n) for n in CLIENTS}
    samples = measure_interleaved({"infer": infer, **served}, rounds)
    for latencies in server.latencies_ms.values():
        del latencies[: len(scans)]
    return samples


def measure_memory(server: RunningServer, scans: Sequence[Path], requests: int) -> list[float]:
    """Resident memory in MB, before the requests and after each part of them."""
    sizes, batch = [server.resident_mb], max(MEMORY_CLIENTS, requests // MEMORY_SAMPLES)
    for done in range(0, requests, batch):
        server.predict_folder([scans[n % len(scans)] for n in range(done, min(done + batch, requests))], MEMORY_CLIENTS)
        sizes.append(server.resident_mb)
        print(f"{min(done + batch, requests):6} requests: {sizes[-1]:.0f} MB", flush=True)
    return sizes


def print_rates(samples: Samples, latencies: Mapping[str, Sequence[float]], scans: int) -> None:
    """A line a contestant: scans a second, of `infer`'s, and percentiles of the latency."""
    for name, taken in samples.counted.items():
        rates = [1e3 * scans / milliseconds for milliseconds in taken]
        shares = [own / each for own, each in zip(samples.counted["infer"], taken, strict=True)]
        line = f"{name:18} {statistics.median(rates):6.2f} scans/s, {statistics.median(shares):.2f} of infer"
        if name in latencies:
            tail = percentile(latencies[name], 99)
            line += f"; p50 {statistics.median(latencies[name]):.0f} ms, p99 {tail.value:.0f} ms"
            line += f" ({tail.missing} more requests before it can be relied on)" if tail.missing else ""
        print(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run on the folders named, the real scans, or phantoms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scans", type=int, default=SCANS, help="links to the scans of the folders")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=5000, help="over which memory is read")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, run_server(options.model) as server:
        different = resolve_scans(options.folders, Path(folder))
        scans = link_repeatedly(different, Path(folder), options.scans)
        with open_model(options.model, InferenceConfig("cpu")) as model:
            samples = measure_rates(server, model, scans, options.rounds)
            schedule, report = model.make_schedule(len(scans)).describe(), model.run_report.to_dict()
        latencies = {name: list(values) for name, values in server.latencies_ms.items()}
        print_rates(samples, latencies, len(scans))
        sizes = measure_memory(server, scans, options.requests)
    conditions = {
        "scans": len(scans),
        "different": len(different),
        "schedule of infer": schedule,
        "run_report": report,
        "latencies_ms": latencies,
        "requests": options.requests,
        "resident_mb": sizes,
    }
    question = "Scans over HTTP, beside infer on the same folder"
    machine = describe_machine(PACKAGES)
    save_record(BenchRecord(question, machine, conditions, {}, samples, arrangement="in turn"), "serve")


if __name__ == "__main__":
    main()
