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
from ct3d_edge.errors import Ct3dError, RefusedScan, ScanError, UnreadableScan
from ct3d_edge.preprocess import Prepared, preprocess
from ct3d_edge.quality_control.checker import Inspector, remarks
from ct3d_edge.results.record import Failure, Status, Timing
from ct3d_edge.scan.fingerprint import Stamp, content_sha256
from ct3d_edge.scan.gzip_reader import go_on
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import Finding, permit, require_sound
from ct3d_edge.scan.volume import Scan, Volume

Failed = tuple[Status, Failure]

Source = Path | Volume
"""Where a scan is: on a disk or in memory."""

IN_MEMORY = "(in memory)"
"""What stands for the path of a scan that has none."""


@dataclass(frozen=True, eq=False)
class Reading:
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
    findings
        What reading and preparing noticed.
    timing
        Wall times of reading and preprocessing.
    """

    scan: str
    sha256: str | None
    prepared: Prepared | None
    failed: Failed | None
    findings: tuple[Finding, ...]
    timing: Timing


def read_scan(
    path: Path | str, contract: Contract, on_block: Callable[[], None] = go_on, inspector: Inspector | None = None
) -> Reading:
    """Read and prepare one scan. Never raises for what is wrong with the scan.

    A function of a module that takes and gives picklable values, so that other engines can map it over machines.

    A fault of ct3d-edge itself becomes the failure ``internal``, with a traceback on standard error.

    Parameters
    ----------
    on_block
        Called between blocks of reading; what it raises ends the reading.
    inspector
        Adds what a passport finds, and lets only sound scans pass.
    """
    attempt = _Attempt(Path(path), contract, inspector, on_block)
    failed = explained(attempt.read)
    prepared = None if failed else attempt.prepared
    return Reading(str(path), attempt.sha256, prepared, failed, attempt.findings, attempt.timing())


def read_source(
    source: Source, contract: Contract, on_block: Callable[[], None] = go_on, inspector: Inspector | None = None
) -> Reading:
    """Read and prepare a scan as `read_scan` does, or prepare one that is in memory."""
    if isinstance(source, Volume):
        return prepare_volume(source, contract, IN_MEMORY, inspector)
    return read_scan(source, contract, on_block, inspector)


def prepare_volume(volume: Volume, contract: Contract, name: str, inspector: Inspector | None = None) -> Reading:
    """Prepare a scan that is in memory already; fails as `read_scan` does."""
    attempt = _Attempt(Path(name), contract, inspector)
    permitted = replace(volume, findings=permit(volume.findings, inspector.allow if inspector else ()))

    def prepare() -> None:
        _refuse_other_than_volumes(volume.stored)
        attempt.prepare(permitted)

    start = time.perf_counter()
    failed = explained(prepare)
    timing = Timing(preprocess=None if failed else (time.perf_counter() - start) * 1e3)
    return Reading(name, None, None if failed else attempt.prepared, failed, attempt.findings, timing)


def _refuse_other_than_volumes(stored: NDArray[Any]) -> None:
    """What the header of a file is checked for, of an array."""
    if stored.ndim < 3:
        raise RefusedScan("two_dimensional", f"An array of shape {stored.shape} is not a volume.")
    if stored.ndim > 3:
        raise RefusedScan("several_volumes", f"An array of shape {stored.shape} is more than one volume.")
    if min(stored.shape) < 2:
        raise RefusedScan("single_slice", f"An array of shape {stored.shape} has an axis without depth.")
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
        raise RefusedScan("unsupported_dtype", f"The array holds {stored.dtype}; a CT holds plain real numbers.")


def explained(work: Callable[[], object]) -> Failed | None:
    """Do the work; if it gave nothing, say why: a fault of the scan, or one of ct3d-edge.

    Raises
    ------
    Ct3dError
        What would be wrong for every scan.
    """
    try:
        work()
    except ScanError as error:
        return ("refused" if isinstance(error, RefusedScan) else "error"), Failure(error.code, str(error))
    except Ct3dError:
        raise
    except MemoryError as error:
        return "error", Failure("too_large", f"There is not enough memory for this scan ({error}).")
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return "error", Failure("internal", f"ct3d-edge failed on this scan: {error!r}. Please report it.")
    return None


class _Attempt:
    """One scan being read, and what was found out before that ended."""

    def __init__(
        self, path: Path, contract: Contract, inspector: Inspector | None, on_block: Callable[[], None] = go_on
    ) -> None:
        self.sha256: str | None = None
        self.prepared: Prepared | None = None
        self.findings: tuple[Finding, ...] = ()
        self._path, self._contract, self._inspector, self._on_block = path, contract, inspector, on_block
        self._scan: Scan | None = None
        self._hashing_ms = 0.0
        self._preprocessing_ms: float | None = None

    def read(self) -> None:
        before = self._stamp()
        try:
            self._read()
        except ScanError as error:
            if self._stamp() != before:  # half of one file and half of another look broken in any way
                raise self._changed() from error
            raise
        if self._stamp() != before:
            raise self._changed()

    def prepare(self, scan: Scan) -> None:
        """From an open scan to the network's input, unless something is found for which no model must judge."""
        self.findings = scan.findings
        require_sound(self.findings)
        prepared = preprocess(scan, self._contract)
        self.findings = prepared.findings
        if self._inspector:
            self.findings = remarks(self._inspector.findings(self._path, scan, prepared))
        require_sound(self.findings)
        self.prepared = prepared

    def _read(self) -> None:
        start = time.perf_counter()
        self.sha256 = content_sha256(self._path, self._on_block)
        self._hashing_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        allow = self._inspector.allow if self._inspector else ()
        self._scan = open_scan(self._path, allow=allow, judge=False, on_block=self._on_block)
        self.prepare(self._scan)
        self._preprocessing_ms = (time.perf_counter() - start) * 1e3

    def _stamp(self) -> Stamp:
        return Stamp.of(self._path, self._on_block)

    def _changed(self) -> UnreadableScan:
        name = self._path.name
        return UnreadableScan("changed", f"{name} was written to while it was read. Run it again once it is whole.")

    def timing(self) -> Timing:
        """A scan is read while it is preprocessed, and knows how much of that time was reading."""
        if self._scan is None:
            return Timing()
        waiting, taken = self._scan.reading_ms, self._preprocessing_ms
        return Timing(read=self._hashing_ms + waiting, preprocess=None if taken is None else taken - waiting)
