"""Read, check and preprocess a scan for the network. Needs no session, so any process can do it."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import Ct3dError, RefusedScanError, ScanError, UnreadableScanError, UsageError
from ct3d_edge.preprocessing import ModelInput, preprocess
from ct3d_edge.quality_control.checker import QualityChecker, reportable_flags
from ct3d_edge.results.record import ScanFailure, ScanStatus, Timing
from ct3d_edge.scan.geometry_checks import ASSUMED_ORIENTATION_FLAG
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.loader import FileStamp, content_sha256, open_scan
from ct3d_edge.scan.qc_flag import QCFlag, apply_overrides, raise_if_refused
from ct3d_edge.scan.volume import Scan, Volume

StatusAndFailure = tuple[ScanStatus, ScanFailure]

ScanSource = Path | Volume
"""A scan on disk or in memory."""

ScanPath = str | os.PathLike[str]
ScanInput = ScanPath | Volume | NDArray[Any]
"""A scan as the library takes it."""

IN_MEMORY_NAME = "(in memory)"
"""The name of a scan without a path."""


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan before the network runs on it; exactly one of ``model_input`` and ``failed`` is set.

    Parameters
    ----------
    scan
        Path of the scan.
    sha256
        SHA-256 of its content, if it could be read.
    model_input
        The network input.
    failed
        Status and failure if there is no network input.
    flags
        Quality flags of reading, checking and preprocessing.
    timing
        Wall times of reading and preprocessing.
    """

    scan: str
    sha256: str | None
    model_input: ModelInput | None
    failed: StatusAndFailure | None
    flags: tuple[QCFlag, ...]
    timing: Timing


def prepare_scan(
    path: Path | str,
    contract: Contract,
    check_cancelled: Callable[[], None] = no_cancellation,
    checker: QualityChecker | None = None,
) -> PreparedScan:
    """Read and preprocess one scan. Errors of the scan are in the result; they are not raised.

    Arguments and results can be pickled, so that other frameworks can map this function over machines. An unexpected
    error of ct3d-edge becomes the failure ``internal``, with a traceback on standard error.

    Parameters
    ----------
    check_cancelled
        Called between blocks of reading; its exception ends the reading.
    checker
        Adds the flags of the quality report; a scan with a refused check has no network input.
    """
    attempt = _Preparation(Path(path), contract, checker, check_cancelled)
    failed = run_guarded(attempt.read)
    model_input = None if failed else attempt.model_input
    return PreparedScan(str(path), attempt.sha256, model_input, failed, attempt.flags, attempt.timing())


def to_source(scan: ScanInput) -> ScanSource:
    """A path or a volume; an array becomes a volume whose orientation is assumed, with a flag that says so."""
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, np.ndarray):
        return Volume(scan, flags=(ASSUMED_ORIENTATION_FLAG,))
    return Path(scan)


def require_several_scans(scans: object) -> None:
    """Raise for a single scan that could be iterated: the letters of a path, the slices of an array.

    Raises
    ------
    UsageError
        With the name of the method for one scan.
    """
    if isinstance(scans, str | os.PathLike):
        raise UsageError(f"predict_many takes several paths; give {scans} to predict, or to find_scans first.")
    if isinstance(scans, Volume) or (isinstance(scans, np.ndarray) and scans.ndim < 4):
        raise UsageError("predict_many takes several scans; give one to predict, or in a list.")


def prepare_source(
    source: ScanSource,
    contract: Contract,
    check_cancelled: Callable[[], None] = no_cancellation,
    checker: QualityChecker | None = None,
) -> PreparedScan:
    """`prepare_scan` for a path, `prepare_volume` for a volume."""
    if isinstance(source, Volume):
        return prepare_volume(source, contract, IN_MEMORY_NAME, checker)
    return prepare_scan(source, contract, check_cancelled, checker)


def prepare_volume(
    volume: Volume, contract: Contract, name: str, checker: QualityChecker | None = None
) -> PreparedScan:
    """Check and preprocess a scan in memory; failures as those of `prepare_scan`."""
    attempt = _Preparation(Path(name), contract, checker)
    overridden = replace(volume, flags=apply_overrides(volume.flags, checker.allow if checker else ()))

    def prepare() -> None:
        _check_array(volume.stored)
        attempt.prepare(overridden)

    start = time.perf_counter()
    failed = run_guarded(prepare)
    timing = Timing(preprocess=None if failed else (time.perf_counter() - start) * 1e3)
    return PreparedScan(name, None, None if failed else attempt.model_input, failed, attempt.flags, timing)


def _check_array(stored: NDArray[Any]) -> None:
    """Check an array as the header of a file is checked."""
    if stored.ndim < 3:
        raise RefusedScanError("two_dimensional", f"An array of shape {stored.shape} is not a volume.")
    if stored.ndim > 3:
        raise RefusedScanError("multiple_volumes", f"An array of shape {stored.shape} is more than one volume.")
    if min(stored.shape) < 2:
        raise RefusedScanError("single_slice", f"An array of shape {stored.shape} has an axis without depth.")
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
        raise RefusedScanError(
            "unsupported_dtype", f"The array has the data type {stored.dtype}; a CT has real numbers."
        )


def classify_failure(error: Exception) -> StatusAndFailure:
    """Status and failure of a scan from its error; an unexpected error prints its traceback.

    Raises
    ------
    Ct3dError
        The error itself, if it is not about the scan and would recur for every scan.
    """
    if isinstance(error, ScanError):
        return ("refused" if isinstance(error, RefusedScanError) else "error"), ScanFailure(error.code, str(error))
    if isinstance(error, Ct3dError):
        raise error
    if isinstance(error, MemoryError):
        return "error", ScanFailure("too_large", f"There is not enough memory for this scan ({error}).")
    traceback.print_exception(error, file=sys.stderr)
    return "error", ScanFailure("internal", f"ct3d-edge failed on this scan: {error!r}. Please report it.")


def run_guarded(work: Callable[[], object]) -> StatusAndFailure | None:
    """Do the work; None if it succeeds, else `classify_failure` of its error."""
    try:
        work()
    except Exception as error:
        return classify_failure(error)
    return None


class _Preparation:
    """The preparation of one scan; keeps what was read before an error."""

    def __init__(
        self,
        path: Path,
        contract: Contract,
        checker: QualityChecker | None,
        check_cancelled: Callable[[], None] = no_cancellation,
    ) -> None:
        self.sha256: str | None = None
        self.model_input: ModelInput | None = None
        self.flags: tuple[QCFlag, ...] = ()
        self._path, self._contract, self._checker, self._check_cancelled = path, contract, checker, check_cancelled
        self._scan: Scan | None = None
        self._hashing_ms = 0.0
        self._preprocessing_ms: float | None = None

    def read(self) -> None:
        before = self._read_stamp()
        try:
            self._read()
        except ScanError as error:
            if self._read_stamp() != before:  # a file that changes while it is read can look broken in any way
                raise self._modified_error() from error
            raise
        if self._read_stamp() != before:
            raise self._modified_error()

    def prepare(self, scan: Scan) -> None:
        """Preprocess and check an open scan; raises if a check refuses it."""
        self.flags = scan.flags
        raise_if_refused(self.flags)
        model_input = preprocess(scan, self._contract)
        self.flags = model_input.flags
        if self._checker:
            self.flags = reportable_flags(self._checker.flags(self._path, scan, model_input))
        raise_if_refused(self.flags)
        self.model_input = model_input

    def _read(self) -> None:
        start = time.perf_counter()
        self.sha256 = content_sha256(self._path, self._check_cancelled)
        self._hashing_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        allow = self._checker.allow if self._checker else ()
        self._scan = open_scan(self._path, allow=allow, raise_refused=False, check_cancelled=self._check_cancelled)
        self.prepare(self._scan)
        self._preprocessing_ms = (time.perf_counter() - start) * 1e3

    def _read_stamp(self) -> FileStamp:
        return FileStamp.of(self._path, self._check_cancelled)

    def _modified_error(self) -> UnreadableScanError:
        name = self._path.name
        return UnreadableScanError(
            "modified_during_read", f"{name} was modified while it was read. Run it again when it is complete."
        )

    def timing(self) -> Timing:
        """Wall times. Reading and preprocessing overlap; the scan measures how much of the time was reading."""
        if self._scan is None:
            return Timing()
        reading_ms, total_ms = self._scan.reading_ms, self._preprocessing_ms
        preprocessing_ms = None if total_ms is None else total_ms - reading_ms
        return Timing(read=self._hashing_ms + reading_ms, preprocess=preprocessing_ms)
