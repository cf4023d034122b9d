"""The work that is timed: a scan file to its probability, the clocks that nest in it, and partial results."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.latency.measure import StageTimer
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.preprocess import preprocess
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import describe_machine

PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "nibabel")


def describe_environment() -> dict[str, Any]:
    """What ``describe_machine`` finds, with the packages between a scan file and its probability."""
    return describe_machine(PACKAGES)


class PartialResultError(Exception):
    """A measurement failed or was interrupted; its cause is the failure.

    Parameters
    ----------
    record
        What there is.
    """

    def __init__(self, record: BenchRecord) -> None:
        super().__init__(record.incomplete)
        self.record = record

    def __reduce__(self) -> "tuple[type[PartialResultError], tuple[BenchRecord]]":
        """Pickle with the record, which ``args`` does not hold."""
        return type(self), (self.record,)


@contextmanager
def keep_partial_result(record: Callable[[str], BenchRecord]) -> Iterator[None]:
    """Turn any end but the regular one into a ``BrokenOffError`` with the record made for its reason."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        reason = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        raise PartialResultError(record(reason)) from error


DEVICE_RESIDENT = "device-resident run"
"""The network alone, its input and output staying where it runs; timed after each scan, beside it."""

CLOCKS = {
    DEVICE_RESIDENT: (DEVICE_RESIDENT,),
    "run + copies": ("infer",),
    "+ preprocessing": ("preprocess", "infer"),
    "file to decision": ("read", "preprocess", "infer"),
}
"""Clock to the stages that it is the sum of, each within the next."""

PHANTOM_SEED = 30_000
PHANTOM_SHAPE = (512, 512, 40)


@contextmanager
def bench_scans(folder: Path | None) -> Iterator[list[Path]]:
    """Yield the scans of a folder, or one phantom of 512 x 512 x 40 that lives as long as the benchmark."""
    if folder:
        yield find_scans([folder])
        return
    with TemporaryDirectory() as place:
        path = Path(place, "phantom.nii.gz")
        save_scan(make_phantom(PHANTOM_SEED, abnormal=True, shape=PHANTOM_SHAPE), path)
        yield [path]


def prepare_network_input(path: Path, contract: Contract) -> NDArray[np.float32]:
    """Prepare a scan before anything is timed: one that cannot be used must not end a long measurement.

    Returns
    -------
    ndarray
        ``(1, *contract.shape)`` float32.

    Raises
    ------
    UsageError
        Naming the scan and what is wrong with it.
    """
    try:
        return preprocess(open_scan(path), contract).volume[None]
    except ScanError as error:
        raise UsageError(f"The benchmark cannot use {path} ({error.code}): {error}") from error


class ScanWorkload:
    """Takes a scan from its file to its probability; then the network alone, beside it. Run n takes scan n, in turn.

    Parameters
    ----------
    runner
        An open session.
    scans
        Files that the session can judge.
    """

    def __init__(self, runner: Runner, scans: Sequence[Path]) -> None:
        self._runner, self._scans = runner, scans
        self._resident = runner.bind_on_device(prepare_network_input(scans[0], runner.contract))

    def __call__(self, number: int, timer: StageTimer) -> None:
        """One run, its stages told to ``timer``."""
        run_scan(self._runner, self._scans[number % len(self._scans)], timer)
        self._resident()
        timer.lap(DEVICE_RESIDENT)


def run_scan(runner: Runner, path: Path, timer: StageTimer) -> None:
    """Read, preprocess and judge one scan; ends with the probabilities in this process's memory."""
    scan = open_scan(path)
    prepared = preprocess(scan, runner.contract)
    timer.lap("preprocess")
    timer.move(scan.reading_ms, "preprocess", to="read")
    runner.infer(prepared.volume[None])
    timer.lap("infer")
