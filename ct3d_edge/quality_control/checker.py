"""The quality report of a scan: the flags of all checks and the highest severity."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError, ScanError
from ct3d_edge.preprocessing import ModelInput, preprocess
from ct3d_edge.quality_control.check_registry import CODE_ORDER
from ct3d_edge.quality_control.domain_shift import MahalanobisOOD, acquisition_flags, compare_to_training, ood_flag
from ct3d_edge.quality_control.voxel_checks import intensity_flags
from ct3d_edge.results.record import ScanStatus
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import QCFlag, apply_overrides, duplicate_flag
from ct3d_edge.scan.volume import Scan

SCHEMA = 3
"""Version of the quality report's JSON form; raised when the meaning of a field changes."""

STATUS_OF_SEVERITY: dict[str, ScanStatus] = {"refuse": "refused", "warn": "warn", "ok": "ok"}
"""Of a scan with such a flag, the worst first."""


@dataclass(frozen=True)
class QualityReport:
    """The quality flags of one scan, or why it could not be checked.

    Parameters
    ----------
    scan
        Path of the scan.
    flags
        One for every check that could be made, in the order of the check registry.
    error
        Code and message if the scan could not be checked, or only in part.
    failure_status
        Status if there is an ``error``: ``error`` if it cannot be read, ``refused`` if it is not one volume of HU.
    """

    scan: str
    flags: tuple[QCFlag, ...]
    error: tuple[str, str] | None = None
    failure_status: ScanStatus | None = None

    @property
    def status(self) -> ScanStatus:
        """As in records of ``infer``: ``refused`` by a flag, or as the reason that it could not be checked."""
        if self.failure_status:
            return self.failure_status
        severities = {flag.severity for flag in self.flags}
        return next((status for severity, status in STATUS_OF_SEVERITY.items() if severity in severities), "ok")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/inputs.md."""
        return {
            "schema": SCHEMA,
            "scan": self.scan,
            "status": self.status,
            "flags": [asdict(flag) for flag in self.flags],
            "error": dict(zip(("code", "message"), self.error, strict=True)) if self.error else None,
        }


class QualityChecker:
    """Checks the scans of one run, and flags those whose network input it has seen before.

    Parameters
    ----------
    contract
        How scans are prepared.
    allow
        Codes of checks to downgrade one severity: ``refuse`` becomes ``warn``, ``warn`` becomes ``ok``.
    include_phi
        Add a flag with the patient's name and ID, which no other output contains.
    search_flags
        Quality flags of the search for the scans, by scan: see `DiscoveredScans`.
    """

    def __init__(
        self,
        contract: Contract,
        allow: Collection[str] = (),
        *,
        include_phi: bool = False,
        search_flags: Mapping[str, Collection[QCFlag]] = MappingProxyType({}),
    ) -> None:
        self.contract = contract
        self.allow = frozenset(allow)
        self.include_phi = include_phi
        self.search_flags = search_flags
        self._seen: dict[str, str] = {}
        self._former: dict[str, str] = {}
        statistics = contract.feature_statistics
        self._ood_detector = MahalanobisOOD(statistics) if statistics else None

    def check(self, path: Path | str) -> QualityReport:
        """Open, preprocess and check one scan. Errors of the scan are in the report; they are not raised."""
        scan: Scan | None = None
        path = Path(path)
        try:
            scan = open_scan(path, allow=self.allow, raise_refused=False)
            prepared = preprocess(scan, self.contract)
            flags = (*self.flags(path, scan, prepared), *self.flag_repeated(str(path), input_sha256(prepared)))
            return QualityReport(str(path), _first_of_each_code(flags))
        except ScanError as error:
            flags = () if scan is None else (*scan.flags, *apply_overrides(self._acquisition_flags(scan), self.allow))
            status: ScanStatus = "refused" if isinstance(error, RefusedScanError) else "error"
            return QualityReport(str(path), _first_of_each_code(flags), (error.code, str(error)), status)

    def flags(self, path: Path, scan: Scan, prepared: ModelInput) -> tuple[QCFlag, ...]:
        """Quality flags of a scan that has been preprocessed; of one code, the first.

        Changes no state, so that threads can check scans in parallel.
        """
        checked = [*self._acquisition_flags(scan), *intensity_flags(scan, prepared, self.contract)]
        # `open_scan` applied the overrides to the scan's own flags, but not to those that preprocessing added.
        added = prepared.flags[len(scan.flags) :]
        overridden = apply_overrides((*added, *checked, *self.search_flags.get(str(path), ())), self.allow)
        return _first_of_each_code((*scan.flags, *overridden, *self._identifier_flags(path)))

    def flag_repeated(self, scan: str, input_sha256: str) -> tuple[QCFlag, ...]:
        """A flag if an earlier scan had the same network input. Call it once for each scan, in order.

        Parameters
        ----------
        input_sha256
            See `input_sha256`.
        """
        first = self._seen.setdefault(input_sha256, self._former.get(input_sha256, scan))
        if first == scan:
            return ()
        return apply_overrides([duplicate_flag(first)], self.allow)

    def forget_former_scans(self) -> None:
        """Forget the scans that none was like since the last call, so that a process that never ends does not grow."""
        self._former, self._seen = self._seen, {}

    def ood_flags(self, pooled: NDArray[np.float32]) -> tuple[QCFlag, ...]:
        """The out-of-distribution check of a scan's pooled features, ``(C,)``.

        Empty if the contract has no feature statistics of the training scans.
        """
        if self._ood_detector is None:
            return ()
        return apply_overrides([ood_flag(pooled, self._ood_detector)], self.allow)

    def _acquisition_flags(self, scan: Scan) -> list[QCFlag]:
        return compare_to_training(acquisition_flags(scan), scan, self.contract.training_range)

    def _identifier_flags(self, path: Path) -> tuple[QCFlag, ...]:
        from ct3d_edge.scan.loader import patient_identifiers

        identifiers = patient_identifiers(path) if self.include_phi else None
        if identifiers is None:
            return ()
        name, patient_id = identifiers
        return (QCFlag("identifiers", "ok", f"Patient {name or '(no name)'}, ID {patient_id or '(none)'}."),)


def input_sha256(prepared: ModelInput) -> str:
    """SHA-256 of the network input."""
    return hashlib.sha256(prepared.volume.data).hexdigest()


def reportable_flags(flags: Collection[QCFlag]) -> tuple[QCFlag, ...]:
    """Quality flags that go into a result record: all but measured values within their limits."""
    return tuple(flag for flag in flags if flag.severity != "ok" or flag.code == "identifiers")


def _first_of_each_code(flags: Collection[QCFlag]) -> tuple[QCFlag, ...]:
    """The first quality flag of each code, in the order of the check registry."""
    first: dict[str, QCFlag] = {}
    for flag in flags:
        first.setdefault(flag.code, flag)
    return tuple(sorted(first.values(), key=lambda flag: CODE_ORDER.get(flag.code, len(CODE_ORDER))))
