"""A scan on its way to the network: read and prepared, or why not. Needs no session, so any process can do it."""

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import Ct3dError, RefusedScanError, ScanError, UnreadableScanError
from ct3d_edge.preprocessing import ModelInput, preprocess
from ct3d_edge.quality_control.checker import QualityChecker, reportable_flags
from ct3d_edge.results.record import ScanFailure, ScanStatus, Timing
from ct3d_edge.scan.fingerprint import FileStamp, content_sha256
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import QCFlag, apply_overrides, raise_if_refused
from ct3d_edge.scan.volume import Scan, Volume

StatusAndFailure = tuple[ScanStatus, ScanFailure]

ScanSource = Path | Volume
"""Where a scan is: on a disk or in memory."""

IN_MEMORY_NAME = "(in memory)"
"""What stands for the path of a scan that has none."""


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """What is known of a scan before the network has seen it; exactly one of ``prepared`` and ``failed`` is set.

    Parameters
    ----------
    scan
        Path as it was found.
    sha256
        Of its content, if that could be read.
    prepared
        The network input.
    failed
        Status and reason if there is none.
    flags
        What reading and preparing noticed.
    timing
        Wall times of reading and preprocessing.
    """

    scan: str
    sha256: str | None
    prepared: ModelInput | None
    failed: StatusAndFailure | None
    flags: tuple[QCFlag, ...]
    timing: Timing


def prepare_scan(
    path: Path | str,
    contract: Contract,
    on_block: Callable[[], None] = no_cancellation,
    checker: QualityChecker | None = None,
) -> PreparedScan:
    """Read and prepare one scan. Never raises for what is wrong with the scan.

    A function of a module that takes and gives picklable values, so that other engines can map it over machines.

    A fault of ct3d-edge itself becomes the failure ``internal``, with a traceback on standard error.

    Parameters
    ----------
    on_block
        Called between blocks of reading; what it raises ends the reading.
    checker
        Adds what a quality report finds, and lets only sound scans pass.
    """
    attempt = _Preparation(Path(path), contract, checker, on_block)
    failed = run_guarded(attempt.read)
    prepared = None if failed else attempt.prepared
    return PreparedScan(str(path), attempt.sha256, prepared, failed, attempt.flags, attempt.timing())


def prepare_source(
    source: ScanSource,
    contract: Contract,
    on_block: Callable[[], None] = no_cancellation,
    checker: QualityChecker | None = None,
) -> PreparedScan:
    """Read and prepare a scan as `prepare_scan` does, or prepare one that is in memory."""
    if isinstance(source, Volume):
        return prepare_volume(source, contract, IN_MEMORY_NAME, checker)
    return prepare_scan(source, contract, on_block, checker)


def prepare_volume(
    volume: Volume, contract: Contract, name: str, checker: QualityChecker | None = None
) -> PreparedScan:
    """Prepare a scan that is in memory already; fails as `prepare_scan` does."""
    attempt = _Preparation(Path(name), contract, checker)
    permitted = replace(volume, flags=apply_overrides(volume.flags, checker.allow if checker else ()))

    def prepare() -> None:
        _check_array(volume.stored)
        attempt.prepare(permitted)

    start = time.perf_counter()
    failed = run_guarded(prepare)
    timing = Timing(preprocess=None if failed else (time.perf_counter() - start) * 1e3)
    return PreparedScan(name, None, None if failed else attempt.prepared, failed, attempt.flags, timing)


def _check_array(stored: NDArray[Any]) -> None:
    """What the header of a file is checked for, of an array."""
    if stored.ndim < 3:
        raise RefusedScanError("two_dimensional", f"An array of shape {stored.shape} is not a volume.")
    if stored.ndim > 3:
        raise RefusedScanError("multiple_volumes", f"An array of shape {stored.shape} is more than one volume.")
    if min(stored.shape) < 2:
        raise RefusedScanError("single_slice", f"An array of shape {stored.shape} has an axis without depth.")
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
        raise RefusedScanError("unsupported_dtype", f"The array holds {stored.dtype}; a CT holds plain real numbers.")


def classify_failure(error: Exception) -> StatusAndFailure:
    """Status and reason of a scan without a result: a fault of the scan, or one of ct3d-edge, with its traceback.

    Raises
    ------
    Ct3dError
        The error itself, if it would be the same for every scan.
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
    """Do the work; None if it succeeds, else what `classify_failure` makes of its error."""
    try:
        work()
    except Exception as error:
        return classify_failure(error)
    return None


class _Preparation:
    """One scan being read, and what was found out before that ended."""

    def __init__(
        self,
        path: Path,
        contract: Contract,
        checker: QualityChecker | None,
        on_block: Callable[[], None] = no_cancellation,
    ) -> None:
        self.sha256: str | None = None
        self.prepared: ModelInput | None = None
        self.flags: tuple[QCFlag, ...] = ()
        self._path, self._contract, self._checker, self._on_block = path, contract, checker, on_block
        self._scan: Scan | None = None
        self._hashing_ms = 0.0
        self._preprocessing_ms: float | None = None

    def read(self) -> None:
        before = self._read_stamp()
        try:
            self._read()
        except ScanError as error:
            if self._read_stamp() != before:  # half of one file and half of another look broken in any way
                raise self._modified_error() from error
            raise
        if self._read_stamp() != before:
            raise self._modified_error()

    def prepare(self, scan: Scan) -> None:
        """From an open scan to the network's input, unless something is found for which no model must predict."""
        self.flags = scan.flags
        raise_if_refused(self.flags)
        prepared = preprocess(scan, self._contract)
        self.flags = prepared.flags
        if self._checker:
            self.flags = reportable_flags(self._checker.flags(self._path, scan, prepared))
        raise_if_refused(self.flags)
        self.prepared = prepared

    def _read(self) -> None:
        start = time.perf_counter()
        self.sha256 = content_sha256(self._path, self._on_block)
        self._hashing_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        allow = self._checker.allow if self._checker else ()
        self._scan = open_scan(self._path, allow=allow, raise_refused=False, on_block=self._on_block)
        self.prepare(self._scan)
        self._preprocessing_ms = (time.perf_counter() - start) * 1e3

    def _read_stamp(self) -> FileStamp:
        return FileStamp.of(self._path, self._on_block)

    def _modified_error(self) -> UnreadableScanError:
        name = self._path.name
        return UnreadableScanError(
            "modified_during_read", f"{name} was written to while it was read. Run it again once it is whole."
        )

    def timing(self) -> Timing:
        """A scan is read while it is preprocessed, and knows how much of that time was reading."""
        if self._scan is None:
            return Timing()
        waiting, taken = self._scan.reading_ms, self._preprocessing_ms
        return Timing(read=self._hashing_ms + waiting, preprocess=None if taken is None else taken - waiting)
