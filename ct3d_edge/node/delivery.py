"""Calls destinations: verification, and reports that are sent until they are accepted."""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ct3d_edge.node.config import Peer
from ct3d_edge.node.outbox import Outbox

LOGGER = logging.getLogger(__name__)

FIRST_DELAY_S, MAX_DELAY_S = 1.0, 300.0
"""Seconds before the first retry, doubled each time, and at most."""

CONNECTION_TIMEOUT_S = 10.0

DUPLICATE = 0x0111
"""Status of an archive that has the instance already."""


class DeliveryError(Exception):
    """A destination cannot be reached, or does not accept something; the reason in words."""


class UnreachableError(DeliveryError):
    """There is no association with a destination, so that nothing can be sent to it."""


class Caller:
    """Makes associations with other nodes.

    Parameters
    ----------
    ae_title
        Own AE title.
    timeout
        Seconds to wait for an answer.
    tls
        Settings of TLS, if it is used.
    """

    def __init__(self, ae_title: str, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        self._entity, self._tls = AE(ae_title=ae_title), tls
        self._entity.connection_timeout = CONNECTION_TIMEOUT_S
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = timeout

    def verify(self, peer: Peer, sop_classes: Sequence[str] = ()) -> None:
        """C-ECHO in an association that also asks whether the peer takes instances of some classes.

        Raises
        ------
        DeliveryError
            If the peer does not answer with success, or does not take a class.
        """
        with self._associate(peer, [str(Verification), *sop_classes]) as association:
            _require_success(association.send_c_echo().get("Status"))

    def send(self, peer: Peer, report: Path) -> None:
        """C-STORE of a report.

        Raises
        ------
        DeliveryError
            If the peer does not store it.
        """
        sop_class = str(dcmread(report, specific_tags=["SOPClassUID"]).SOPClassUID)
        with self._associate(peer, [sop_class]) as association:
            _require_success(association.send_c_store(report).get("Status"))

    @contextmanager
    def _associate(self, peer: Peer, sop_classes: Sequence[str]) -> Iterator[Association]:
        syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        contexts = [build_context(sop_class, syntaxes) for sop_class in sop_classes]
        tls = None if self._tls is None else (self._tls, peer.host)
        try:
            association = self._entity.associate(
                peer.host, peer.port or 0, contexts=contexts, ae_title=peer.ae_title, tls_args=tls
            )
        except (OSError, RuntimeError) as error:  # no such host
            raise UnreachableError(f"there is no host {peer.host}") from error
        if not association.is_established:
            _require_accepted_classes(association)  # pynetdicom aborts the association if the peer takes no class
            raise UnreachableError(self._failure_reason(association, peer))
        try:
            _require_accepted_classes(association)
            yield association
        except ValueError as error:  # no presentation context for the transfer syntax of the file
            raise DeliveryError("it does not take instances of this class and transfer syntax") from error
        finally:
            association.release()

    def _failure_reason(self, association: Association, peer: Peer) -> str:
        """Why there is no association."""
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            return f"it rejects the association: {answer.reason_str}"
        try:  # pynetdicom logs what the system said, and keeps it to itself
            connection = socket.create_connection((peer.host, peer.port or 0), CONNECTION_TIMEOUT_S)
        except OSError as error:
            return f"it cannot be reached: {error.strerror or error}"
        with connection:
            try:
                if self._tls is not None:
                    self._tls.wrap_socket(connection, server_hostname=peer.host).close()
            except OSError as error:
                reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror
                return f"TLS failed: {reason or error}"
        return "it does not answer the request for an association"


def _require_accepted_classes(association: Association) -> None:
    names = [UID(str(context.abstract_syntax)).name for context in association.rejected_contexts]
    if names:
        raise DeliveryError(f"it does not accept {', '.join(names)}")


def _require_success(status: int | None) -> None:
    if status is None:
        raise DeliveryError("it gave no answer")
    if status != DUPLICATE and status and status >> 12 != 0xB:  # Bxxx: a warning, stored all the same
        raise DeliveryError(f"it answered with status {status:04X}")


class Delivery:
    """Sends the reports of the outbox to one destination, in a thread of its own.

    Nothing is given up: after a failure the next attempt follows in 1 s, then 2 s, up to 5 minutes.

    Parameters
    ----------
    caller, destination
        How and where to.
    outbox
        What.
    """

    def __init__(self, caller: Caller, destination: Peer, outbox: Outbox) -> None:
        self._caller, self._destination, self._outbox = caller, destination, outbox
        self._stop, self._added = threading.Event(), threading.Event()
        self._delay_s, self._unreachable = 0.0, ""
        self._refused: set[tuple[str, str]] = set()
        self._thread = threading.Thread(target=self._run, name=f"ct3d-edge to {destination.ae_title}", daemon=True)

    def start(self) -> None:
        """Begin with what is in the outbox."""
        self._thread.start()

    def notify(self) -> None:
        """Send what was added."""
        self._added.set()

    def stop(self, timeout: float) -> None:
        """End after the report that is being sent, or after some seconds."""
        self._stop.set()
        self._added.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._added.clear()
            try:
                refused = self._send_pending()
            except (UnreachableError, OSError) as error:  # or the outbox cannot be read
                self._log_unreachable(_describe(error))
                self._stop.wait(self._next_delay())
            else:
                self._added.wait(self._next_delay() if refused else None)

    def _next_delay(self) -> float:
        self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), MAX_DELAY_S)
        return self._delay_s

    def _send_pending(self) -> int:
        """Try to send each pending report; how many were refused.

        Raises
        ------
        UnreachableError
            If there is no association.
        OSError
            If the outbox cannot be read.
        """
        refused: dict[str, list[str]] = {}
        try:
            self._send_each(refused)
        finally:
            self._log_refused(refused)
        return sum(map(len, refused.values()))

    def _send_each(self, refused: dict[str, list[str]]) -> None:
        """Send until the destination cannot be reached; adds to ``refused`` the names of reports by reason."""
        for report in self._outbox.pending(self._destination):
            if self._stop.is_set():
                return
            start = time.perf_counter()
            try:
                self._caller.send(self._destination, report)
                self._outbox.remove(report)
            except (UnreachableError, OSError):
                raise
            except Exception as error:  # a report that is refused, or damaged, must not keep others back
                refused.setdefault(_describe(error), []).append(report.stem)
                if isinstance(error, DeliveryError):  # it answered
                    self._unreachable = ""
                continue
            self._delay_s, self._unreachable = 0.0, ""
            self._refused = {(name, reason) for name, reason in self._refused if name != report.stem}
            milliseconds = (time.perf_counter() - start) * 1e3
            LOGGER.info("%s: %s to %s (%.0f ms)", report.stem, _sent(report), self._destination.ae_title, milliseconds)

    def _log_unreachable(self, reason: str) -> None:
        """Log that the destination cannot be reached when that begins, not at each attempt."""
        if reason != self._unreachable:
            LOGGER.warning("%s: %s; tried again", self._destination, reason)
        self._unreachable = reason

    def _log_refused(self, refused: dict[str, list[str]]) -> None:
        """Log what was refused for the first time, a line for each reason: the pictures of a map are many."""
        for reason, names in refused.items():
            new = [name for name in names if (name, reason) not in self._refused]
            if new:
                more = f" and {len(new) - 1} more" if len(new) > 1 else ""
                LOGGER.warning("%s: %s%s: %s; tried again", self._destination, new[0], more, reason)
            self._refused.update((name, reason) for name in new)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, DeliveryError) else repr(error)


def _sent(report: Path) -> str:
    """What a line says of a file; those of maps have an ending after the name of the series."""
    return "sent" if "_" in report.stem else "report sent"
