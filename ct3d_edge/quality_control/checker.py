"""A scan's quality report: everything that was checked, and the worst of it."""

import hashlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError, ScanError
from ct3d_edge.preprocessing import ModelInput, preprocess
from ct3d_edge.quality_control.check_registry import CODE_ORDER
from ct3d_edge.quality_control.domain_shift import acquisition_flags, compare_to_training, ood_flag
from ct3d_edge.quality_control.intensity_checks import intensity_flags
from ct3d_edge.quality_control.ood_detector import MahalanobisOOD
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import QCFlag, Severity, apply_overrides
from ct3d_edge.scan.volume import Scan

SCHEMA = 1
"""Version of the quality report's JSON form; raised when the meaning of a field changes."""

SEVERITY_ORDER: dict[Severity, int] = {"ok": 0, "warn": 1, "refuse": 2}


@dataclass(frozen=True)
class QualityReport:
    """What was found about one scan.

    Parameters
    ----------
    scan
        Path as it was found.
    flags
        Every check that could be made, in the order of the rules.
    error
        Code and sentence if there is nothing that could be checked, or only a part.
    status
        What ``infer`` calls such a scan: ``error`` if it cannot be read, ``refused`` if it is not one volume of HU.
    """

    scan: str
    flags: tuple[QCFlag, ...]
    error: tuple[str, str] | None = None
    status: Literal["refused", "error"] | None = None

    @property
    def verdict(self) -> Severity:
        """The worst of the quality flags; a scan that cannot be read is refused."""
        if self.error:
            return "refuse"
        return max((flag.severity for flag in self.flags), key=SEVERITY_ORDER.__getitem__, default="ok")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/inputs.md."""
        return {
            "schema": SCHEMA,
            "scan": self.scan,
            "verdict": self.verdict,
            "flags": [asdict(flag) for flag in self.flags],
            "error": dict(zip(("code", "message"), self.error, strict=True)) if self.error else None,
        }


class QualityChecker:
    """Checks the scans of one run, and remembers them to find those that come twice.

    Parameters
    ----------
    contract
        How scans are prepared.
    allow
        Codes of quality flags that count one step less: what is refused becomes a warning, a warning passes.
    include_phi
        Add the patient's name and ID, which nothing shows otherwise.
    """

    def __init__(self, contract: Contract, allow: Collection[str] = (), *, include_phi: bool = False) -> None:
        self.contract = contract
        self.allow = frozenset(allow)
        self.include_phi = include_phi
        self._seen: dict[str, str] = {}
        known = contract.feature_statistics
        self._resemblance = MahalanobisOOD(known) if known else None

    def inspect(self, path: Path | str) -> QualityReport:
        """Open, prepare and check one scan. Never raises for what is wrong with the scan."""
        scan: Scan | None = None
        path = Path(path)
        try:
            scan = open_scan(path, allow=self.allow, raise_refused=False)
            prepared = preprocess(scan, self.contract)
            found = (*self.flags(path, scan, prepared), *self.flag_repeated(str(path), input_sha256(prepared)))
            return QualityReport(str(path), _first_of_each_code(found))
        except ScanError as error:
            known = () if scan is None else (*scan.flags, *apply_overrides(self._acquisition_flags(scan), self.allow))
            status: Literal["refused", "error"] = "refused" if isinstance(error, RefusedScanError) else "error"
            return QualityReport(str(path), _first_of_each_code(known), (error.code, str(error)), status)

    def flags(self, path: Path, scan: Scan, prepared: ModelInput) -> tuple[QCFlag, ...]:
        """Every quality flag about a scan that has been prepared, those of its reading first among their code.

        Nothing is remembered, so that scans can be looked at side by side.
        """
        found = [*self._acquisition_flags(scan), *intensity_flags(scan, prepared, self.contract)]
        # The scan's own were permitted when it was opened; what preparing added was not yet.
        added = prepared.flags[len(scan.flags) :]
        permitted = apply_overrides((*added, *found), self.allow)
        return _first_of_each_code((*scan.flags, *permitted, *self._identifier_flags(path)))

    def flag_repeated(self, scan: str, input_sha256: str) -> tuple[QCFlag, ...]:
        """Whether the network was given the same numbers before; to be asked of each scan, in their order.

        Parameters
        ----------
        input_sha256
            See `input_sha256`.
        """
        first = self._seen.setdefault(input_sha256, scan)
        if first == scan:
            return ()
        found = QCFlag("duplicate", "warn", f"The network is given the same numbers as for {first}.", first)
        return apply_overrides([found], self.allow)

    def ood_flags(self, pooled: NDArray[np.float32]) -> tuple[QCFlag, ...]:
        """Whether the features ``(C,)`` that the network pools of a scan are like those of its training scans.

        Nothing if the contract does not say what those were.
        """
        if self._resemblance is None:
            return ()
        return apply_overrides([ood_flag(pooled, self._resemblance)], self.allow)

    def _acquisition_flags(self, scan: Scan) -> list[QCFlag]:
        return compare_to_training(acquisition_flags(scan), scan, self.contract.training_range)

    def _identifier_flags(self, path: Path) -> tuple[QCFlag, ...]:
        from ct3d_edge.scan.loader import patient_identifiers

        said = patient_identifiers(path) if self.include_phi else None
        if said is None:
            return ()
        return (QCFlag("identifiers", "ok", f"Patient {said[0] or '(no name)'}, ID {said[1] or '(none)'}."),)


def input_sha256(prepared: ModelInput) -> str:
    """Hash of the numbers that the network is given."""
    return hashlib.sha256(prepared.volume.data).hexdigest()


def reportable_flags(flags: Collection[QCFlag]) -> tuple[QCFlag, ...]:
    """Quality flags that a record keeps: those that are more than a measured value within its limits."""
    return tuple(flag for flag in flags if flag.severity != "ok" or flag.code == "identifiers")


def _first_of_each_code(flags: Collection[QCFlag]) -> tuple[QCFlag, ...]:
    """The first quality flag of each code, in the order of the rules."""
    first: dict[str, QCFlag] = {}
    for flag in flags:
        first.setdefault(flag.code, flag)
    return tuple(sorted(first.values(), key=lambda flag: CODE_ORDER.get(flag.code, len(CODE_ORDER))))
