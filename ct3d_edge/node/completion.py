"""When a series that is arriving is complete."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ct3d_edge.formatting import format_bytes
from ct3d_edge.node.config import Completion, Limits
from ct3d_edge.scan.dicom.instance_identity import InstanceIdentity

MAX_EARLY_SERIES = 1000
"""Series of which an instance was refused and none accepted that are remembered."""


@dataclass
class ArrivingSeries:
    """What is known of a series that is still arriving.

    Parameters
    ----------
    last_change
        When its last instance came, by a clock that never goes back.
    instances
        SOPInstanceUID to the images in it.
    size
        Bytes on disk.
    declared
        Images of the series by its own account, or None.
    senders
        Associations that sent instances of it and are still open.
    released
        Whether each association that sent instances of it was released, none was lost.
    refused
        SOPInstanceUIDs that could not be stored, and have not come again.
    """

    last_change: float
    instances: dict[str, int] = field(default_factory=dict)
    size: int = 0
    declared: int | None = None
    senders: set[int] = field(default_factory=set)
    released: bool = True
    refused: set[str] = field(default_factory=set)

    def completion_reason(self, rules: Completion, now: float) -> str | None:
        """Why the series is complete; None if it is not."""
        if rules.on_count and self.declared is not None and sum(self.instances.values()) >= self.declared:
            return f"{self.declared} images declared"
        # After a refusal the peer may try again in another association.
        if rules.on_release and self.released and not self.senders and not self.refused:
            return "association released"
        if now - self.last_change >= rules.stable_for:
            return f"unchanged for {rules.stable_for:g} s"
        return None


class SeriesTracker:
    """The series that are arriving at a node; used by the threads of its associations.

    Parameters
    ----------
    clock
        A monotonic clock, in seconds, so that no change of the time of day completes a series.
    """

    def __init__(self, rules: Completion, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules, self._limits, self._clock = rules, limits, clock
        self._lock = threading.Lock()
        self._series: dict[str, ArrivingSeries] = {}
        self._early_refusals: dict[str, set[str]] = {}  # of series without an accepted instance
        self._unread_refusals: dict[int, set[str]] = {}  # of open associations
        self.changed = threading.Event()
        """Set when a series may have become complete by something else than time."""

    def __len__(self) -> int:
        return len(self._series)

    def exceeded_limit(self, identity: InstanceIdentity, size: int) -> str | None:
        """Which limit of its series an instance of ``size`` bytes would exceed, in words; None if it does not."""
        with self._lock:
            series = self._series.get(identity.series)
            if series is None:
                return None
            if identity.instance not in series.instances and len(series.instances) >= self._limits.max_instances:
                return f"a series may have {self._limits.max_instances} instances"
            if series.size + size > self._limits.max_series_bytes:
                return f"a series may have {format_bytes(self._limits.max_series_bytes)}"
            return None

    def add_instance(self, identity: InstanceIdentity, grown: int, sender: int | None = None) -> None:
        """Note an instance that was stored, and the bytes that its series grew by."""
        with self._lock:
            series = self._series.setdefault(identity.series, ArrivingSeries(self._clock()))
            series.refused |= self._early_refusals.pop(identity.series, set())
            if sender is not None and sender not in series.senders:
                series.refused |= self._unread_refusals.get(sender, set())
            series.instances[identity.instance] = identity.frames
            for refused in (*(each.refused for each in self._series.values()), *self._unread_refusals.values()):
                refused.discard(identity.instance)
            series.size += grown
            series.declared = max(filter(None, (series.declared, identity.declared)), default=None)
            series.last_change = self._clock()
            if sender is None:  # of an earlier run of the node: how its association ended is not known
                series.released = False
            else:
                series.senders.add(sender)
        if self._rules.on_count:
            self.changed.set()

    def add_refusal(self, identity: InstanceIdentity) -> None:
        """Note that an instance of a series was refused: the series waits for it, also if it is yet to begin."""
        with self._lock:
            if series := self._series.get(identity.series):
                self._refuse(series, identity.instance)
                return
            if len(self._early_refusals) >= MAX_EARLY_SERIES:
                del self._early_refusals[next(iter(self._early_refusals))]
            self._add_bounded(self._early_refusals.setdefault(identity.series, set()), identity.instance)

    def add_unread_refusal(self, instance: str, sender: int) -> None:
        """Note that an instance of an unknown series was refused: each series of that association waits for it."""
        with self._lock:
            self._add_bounded(self._unread_refusals.setdefault(sender, set()), instance)
            for series in self._series.values():
                if sender in series.senders:
                    self._refuse(series, instance)

    def _refuse(self, series: ArrivingSeries, instance: str) -> None:
        self._add_bounded(series.refused, instance)
        series.last_change = self._clock()

    def _add_bounded(self, refused: set[str], instance: str) -> None:
        if len(refused) < self._limits.max_instances:
            refused.add(instance)

    def end_association(self, sender: int, *, released: bool) -> None:
        """Note that an association ended, released by the peer or lost."""
        with self._lock:
            self._unread_refusals.pop(sender, None)
            for series in self._series.values():
                if sender in series.senders:
                    series.senders.remove(sender)
                    series.released = series.released and released
        if self._rules.on_release:
            self.changed.set()

    def take_complete(self) -> list[tuple[str, ArrivingSeries, str]]:
        """Remove and return the series that are complete: UID, what is known of it, and the reason."""
        with self._lock:
            now = self._clock()
            reasons = {uid: series.completion_reason(self._rules, now) for uid, series in self._series.items()}
            return [(uid, self._series.pop(uid), reason) for uid, reason in reasons.items() if reason]

    def put_back(self, series_uid: str, series: ArrivingSeries) -> None:
        """Wait once more for a series that could not be completed, the disk being full for instance."""
        with self._lock:
            series.last_change, series.released = self._clock(), False
            self._series.setdefault(series_uid, series)
