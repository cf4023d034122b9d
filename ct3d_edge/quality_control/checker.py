"""A scan's passport: everything that was checked, and the worst of it."""

import hashlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScan, ScanError
from ct3d_edge.preprocess import Prepared, preprocess
from ct3d_edge.quality_control.check_registry import ORDER
from ct3d_edge.quality_control.domain_shift import against_range, lying_findings, resemblance_finding
from ct3d_edge.quality_control.intensity_checks import content_findings
from ct3d_edge.quality_control.ood_detector import Resemblance
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import Finding, Severity, permit
from ct3d_edge.scan.volume import Scan

SCHEMA = 1
"""Version of the passport's JSON form; raised when the meaning of a field changes."""

STEPS: dict[Severity, int] = {"ok": 0, "warn": 1, "refuse": 2}


@dataclass(frozen=True)
class Passport:
    """What was found about one scan.

    Parameters
    ----------
    scan
        Path as it was found.
    findings
        Every check that could be made, in the order of the rules.
    error
        Code and sentence if there is nothing that could be checked, or only a part.
    status
        What ``infer`` calls such a scan: ``error`` if it cannot be read, ``refused`` if it is not one volume of HU.
    """

    scan: str
    findings: tuple[Finding, ...]
    error: tuple[str, str] | None = None
    status: Literal["refused", "error"] | None = None

    @property
    def verdict(self) -> Severity:
        """The worst of the findings; a scan that cannot be read is refused."""
        if self.error:
            return "refuse"
        return max((finding.severity for finding in self.findings), key=STEPS.__getitem__, default="ok")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/inputs.md."""
        return {
            "schema": SCHEMA,
            "scan": self.scan,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "error": dict(zip(("code", "message"), self.error, strict=True)) if self.error else None,
        }


class Inspector:
    """Checks the scans of one run, and remembers them to find those that come twice.

    Parameters
    ----------
    contract
        How scans are prepared.
    allow
        Codes of findings that count one step less: what is refused becomes a warning, a warning passes.
    with_identifiers
        Add the patient's name and ID, which nothing shows otherwise.
    """

    def __init__(self, contract: Contract, allow: Collection[str] = (), *, with_identifiers: bool = False) -> None:
        self.contract = contract
        self.allow = frozenset(allow)
        self.with_identifiers = with_identifiers
        self._seen: dict[str, str] = {}
        known = contract.feature_statistics
        self._resemblance = Resemblance(known) if known else None

    def inspect(self, path: Path | str) -> Passport:
        """Open, prepare and check one scan. Never raises for what is wrong with the scan."""
        scan: Scan | None = None
        path = Path(path)
        try:
            scan = open_scan(path, allow=self.allow, judge=False)
            prepared = preprocess(scan, self.contract)
            found = (*self.findings(path, scan, prepared), *self.repeated(str(path), input_sha256(prepared)))
            return Passport(str(path), _once(found))
        except ScanError as error:
            known = () if scan is None else (*scan.findings, *permit(self._lying(scan), self.allow))
            status: Literal["refused", "error"] = "refused" if isinstance(error, RefusedScan) else "error"
            return Passport(str(path), _once(known), (error.code, str(error)), status)

    def findings(self, path: Path, scan: Scan, prepared: Prepared) -> tuple[Finding, ...]:
        """Every finding about a scan that has been prepared, those of its reading first among their code.

        Nothing is remembered, so that scans can be looked at side by side.
        """
        found = [*self._lying(scan), *content_findings(scan, prepared, self.contract)]
        # The scan's own were permitted when it was opened; what preparing added was not yet.
        added = prepared.findings[len(scan.findings) :]
        permitted = permit((*added, *found), self.allow)
        return _once((*scan.findings, *permitted, *self._identifiers(path)))

    def repeated(self, scan: str, input_sha256: str) -> tuple[Finding, ...]:
        """Whether the network was given the same numbers before; to be asked of each scan, in their order.

        Parameters
        ----------
        input_sha256
            See `input_sha256`.
        """
        first = self._seen.setdefault(input_sha256, scan)
        if first == scan:
            return ()
        found = Finding("duplicate", "warn", f"The network is given the same numbers as for {first}.", first)
        return permit([found], self.allow)

    def resemblance(self, pooled: NDArray[np.float32]) -> tuple[Finding, ...]:
        """Whether the features ``(C,)`` that the network pools of a scan are like those of its training scans.

        Nothing if the contract does not say what those were.
        """
        if self._resemblance is None:
            return ()
        return permit([resemblance_finding(pooled, self._resemblance)], self.allow)

    def _lying(self, scan: Scan) -> list[Finding]:
        return against_range(lying_findings(scan), scan, self.contract.training_range)

    def _identifiers(self, path: Path) -> tuple[Finding, ...]:
        from ct3d_edge.scan.loader import identifiers

        said = identifiers(path) if self.with_identifiers else None
        if said is None:
            return ()
        return (Finding("identifiers", "ok", f"Patient {said[0] or '(no name)'}, ID {said[1] or '(none)'}."),)


def input_sha256(prepared: Prepared) -> str:
    """Hash of the numbers that the network is given."""
    return hashlib.sha256(prepared.volume.data).hexdigest()


def remarks(findings: Collection[Finding]) -> tuple[Finding, ...]:
    """Findings that a record keeps: those that are more than a measured value within its limits."""
    return tuple(finding for finding in findings if finding.severity != "ok" or finding.code == "identifiers")


def _once(findings: Collection[Finding]) -> tuple[Finding, ...]:
    """The first finding of each code, in the order of the rules."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.code, finding)
    return tuple(sorted(first.values(), key=lambda finding: ORDER.get(finding.code, len(ORDER))))
