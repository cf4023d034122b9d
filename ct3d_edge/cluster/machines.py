"""The machines of a Ray cluster: which can take scans, and why others are left out."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ct3d_edge.errors import Ct3dError, ProviderError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.results.record import ResultRecord

LOGGER = logging.getLogger(__name__)

MAX_FAILED_SCANS = 2
"""Scans in a row for which the session may fail on a machine; then the machine is left out."""

MAX_START_FAILURES = 2
"""Workers that may end early on a machine before they are ready; then the machine is left out."""


class Machines:
    """The machines that take part, by the identities that Ray gives them.

    Parameters
    ----------
    resource, amount
        What a worker needs of its machine: ``"CPU"`` or ``"GPU"``, and how many.
    """

    def __init__(self, resource: str, amount: int) -> None:
        self._resource, self._amount = resource, amount
        self._left_out: dict[str, str] = {}
        self._start_failures: Counter[str] = Counter()
        self._failed_scans: dict[str, set[str]] = {}

    def list_usable(self) -> list[dict[str, Any]]:
        """Those that are there and not left out, as `ray.nodes` describes them."""
        import ray

        return [each for each in ray.nodes() if each["Alive"] and each["NodeID"] not in self._left_out]

    def count_slots(self, machine: dict[str, Any]) -> int:
        """Workers that fit on a machine."""
        return int(machine["Resources"].get(self._resource, 0) // self._amount)

    def require_any(self) -> None:
        """Raise if no machine can ever take a scan.

        Raises
        ------
        ProviderError
            With the reason for each machine that was left out.
        """
        if any(map(self.count_slots, self.list_usable())):
            return
        if self._left_out:
            raise ProviderError(
                f"No machine of the cluster can take part; {plural(len(self._left_out), 'machine')} left out: "
                f"{'; '.join(self._left_out.values())}"
            )
        raise ProviderError(
            f"No machine of the cluster has {self._amount} {self._resource}. Use a smaller `cpus_per_worker`."
        )

    def exclude(self, machine: str, host: str, reason: str) -> None:
        """Leave a machine out for the rest of the run."""
        if machine not in self._left_out:
            self._left_out[machine] = f"{host}: {reason}"
            LOGGER.warning("machine left out: %s", self._left_out[machine])

    def count_start_failure(self, machine: str, host: str, error: BaseException) -> None:
        """A worker ended before it was ready; too many, and a machine that is still there is left out."""
        self._start_failures[machine] += 1
        if self._start_failures[machine] >= MAX_START_FAILURES and is_alive(machine):
            self.exclude(machine, host, _last_line(error))

    def count_failed_scan(self, machine: str, host: str, scan: str, reason: str) -> bool:
        """A session failed for a scan; whether the machine still takes part."""
        failed = self._failed_scans.setdefault(machine, set())
        failed.add(scan)
        if len(failed) >= MAX_FAILED_SCANS:
            self.exclude(machine, host, reason)
        return len(failed) < MAX_FAILED_SCANS

    def forget_failed_scans(self, machine: str) -> None:
        """A session finished a scan: it is not the machine that fails."""
        self._failed_scans.pop(machine, None)


def is_alive(machine: str) -> bool:
    """Whether a machine is still part of the cluster."""
    import ray

    return any(each["NodeID"] == machine and each["Alive"] for each in ray.nodes())


def require_visible_there(record: ResultRecord) -> None:
    """Refuse a machine that did not find a scan which is here, as below the mount point of a drive that is not mounted.

    Raises
    ------
    UsageError
        If the record says ``not_found`` of a scan that can be opened on this machine.
    """
    if record.failure and record.failure.code == "not_found" and _can_be_opened(Path(record.scan)):
        raise UsageError(f"{record.scan} is not there; all machines must see the scans under the same paths")


def _can_be_opened(scan: Path) -> bool:
    """Whether a scan is here; half of a header and voxel pair, say, is ``not_found`` on every machine."""
    from ct3d_edge.scan.loader import open_scan

    try:
        open_scan(scan)
    except (Ct3dError, OSError):
        return False
    return True


def _last_line(error: BaseException) -> str:
    """Of Ray's many lines the last, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
