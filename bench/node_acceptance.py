"""How long does a node take to accept a series, and how long until its report is at the archive?

    python -m bench.node_acceptance [FOLDER [ROUNDS]]

One series (62 slices of a real scan, or a small one of noise) is sent by dcmtk's storescu to dcmtk's storescp and to a
node, in turn. Then it is sent to a node that predicts it: from the end of the transfer to the report at the archive,
beside the time that a record of the library gives for the same folder. storescp does not sync what it stores, a node
does. Every sample is printed.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1

from bench.node_peers import Archive, NodeProcess, accepts_connections, find_program, free_port, send, wait_for
from bench.node_series import write_small_series
from ct3d_edge.inference.load_model import load_model
from ct3d_edge.quality_control.check_registry import DOWNGRADABLE

MODEL = Path(__file__).parents[1] / "models" / "phantom-cnn.onnx"
REAL_SERIES = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "covid_ricord1a-001012"
ROUNDS = 10
DOWNGRADED = tuple(word for code in sorted(DOWNGRADABLE) for word in ("--downgrade-check", code))


def main() -> None:
    """Measure with the series named, the real one beside the checkout, or a small one of noise."""
    rounds = int(sys.argv[2]) if sys.argv[2:] else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = Path(sys.argv[1]) if sys.argv[1:] else REAL_SERIES
        if not source.is_dir():
            write_small_series(source := folder / "sent", "1.2.826.0.1.1")
        files = sorted(source.iterdir())
        print(f"{len(files)} instances, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
        compare_acceptance(folder, files, rounds)
        measure_reports(folder, files, rounds)


def compare_acceptance(folder: Path, files: list[Path], rounds: int) -> None:
    """Time transfers to storescp and to a node, in turn."""
    with _storescp(folder / "storescp") as other, _node(folder / "accepting", "--stable-for", "86400") as node:
        seconds: dict[str, list[float]] = {"storescp": [], "node": []}
        for number in range(rounds + 1):
            for name, port in (("storescp", other), ("node", node.port)):
                taken = _time(partial(_send, port, files))
                if number:  # the first one warms up
                    seconds[name].append(taken)
    for name, samples in seconds.items():
        print(f"{name:10} {_format(samples)}")
    ratios = [ours / theirs for ours, theirs in zip(seconds["node"], seconds["storescp"], strict=True)]
    print(f"node / storescp, median of the rounds: {statistics.median(ratios):.2f}")


def measure_reports(folder: Path, files: list[Path], rounds: int) -> None:
    """Time from the end of a transfer to the report, and `infer` on the same files."""
    archive = Archive(folder / "archive").start()
    options = ("--complete-on-release", *DOWNGRADED, "--send-to", str(archive.peer))
    ours, alone = [], []
    with _node(folder / "predicting", *options) as node, load_model(MODEL, provider="cpu", allow=DOWNGRADABLE) as model:
        for number in range(rounds + 1):
            copies = _copy_as(files, folder / f"copy{number}", number)
            _send(node.port, copies)
            taken = _time(partial(archive.wait_for_reports, number + 1, settle_s=0))
            record = model.predict(copies[0].parent)
            if number:
                ours.append(taken)
                alone.append(record.timing.total / 1e3)
            shutil.rmtree(copies[0].parent)
    archive.stop()
    print(f"transfer to report {_format(ours)}")
    print(f"infer              {_format(alone)}")
    differences = [one - other for one, other in zip(ours, alone, strict=True)]
    print(f"difference, median of the rounds: {statistics.median(differences):.3f} s")


def _copy_as(files: list[Path], folder: Path, number: int) -> list[Path]:
    """Copies of a series under another series UID."""
    folder.mkdir()
    for index, file in enumerate(files):
        dataset = dcmread(file)
        dataset.SeriesInstanceUID = f"1.2.826.0.2.{number}"
        dataset.SOPInstanceUID = f"1.2.826.0.2.{number}.{index}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / file.name)
    return sorted(folder.iterdir())


def _send(port: int, files: list[Path]) -> None:
    syntax = dcmread(files[0], stop_before_pixels=True).file_meta.TransferSyntaxUID
    options = ("-xs",) if syntax == JPEGLosslessSV1 else ()
    sent = send(port, files, *options)
    if sent.returncode:
        raise SystemExit(sent.stderr)


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port = free_port()
    command = [find_program("storescp"), "+xs", "-od", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: accepts_connections(port), "storescp listens")
        try:
            yield port
        finally:
            process.terminate()


@contextmanager
def _node(spool: Path, *options: str) -> Iterator[NodeProcess]:
    node = NodeProcess(spool, MODEL, *options).wait_until_listening()
    try:
        yield node
    finally:
        node.kill()


def _time(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _format(samples: list[float]) -> str:
    listed = " ".join(f"{sample:.3f}" for sample in samples)
    return f"median {statistics.median(samples):.3f} s of {listed}; {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
