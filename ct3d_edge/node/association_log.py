"""Log lines for associations that are rejected, are of no use, or do not end by release."""

import logging
from collections.abc import Callable

from pynetdicom import evt
from pynetdicom.association import Association

from ct3d_edge.formatting import printable

LOGGER = logging.getLogger(__name__)

MAX_LOGGED_CLASSES = 3
"""Proposed classes that a line names."""


class AssociationLog:
    """Logs why an association is aborted, once: the first reason causes those that follow."""

    def __init__(self, association: Association, is_stopping: Callable[[], bool]) -> None:
        self._association, self._is_stopping, self._is_logged = association, is_stopping, False
        association.bind(evt.EVT_REJECTED, log_rejection)
        association.bind(evt.EVT_ESTABLISHED, log_useless_association)
        association.bind(evt.EVT_ABORTED, self._on_aborted)

    def log_abort(self, reason: object) -> None:
        """Log that the association is aborted, and why."""
        if not self._is_logged:
            self._is_logged = True
            LOGGER.warning("aborted: %s: %s", describe_peer(self._association), reason)

    def log_silence(self, timeout_s: float) -> None:
        """Log that the association is aborted because its peer sent nothing, or only a part of a PDU."""
        self.log_abort(f"no complete PDU came within {timeout_s:g} s")

    def _on_aborted(self, event: evt.Event) -> None:
        association = event.assoc
        if association.dul.idle_timer_expired():
            self.log_silence(association.network_timeout or 0)
        elif self._is_stopping():
            self.log_abort("the node ends")
        elif association._sent_abort:
            self.log_abort("it sent a message that cannot be served")
        else:
            self.log_abort("the peer aborted the association, or the connection was lost")


def describe_peer(association: Association) -> str:
    """Address of the peer, and its AE title once it has sent one."""
    title, address = association.requestor.ae_title.strip(), association.requestor.address
    return f"{address} ({printable(title)})" if title else str(address)


def log_rejection(event: evt.Event) -> None:
    """Log that an association is one too many; those of unknown peers are rejected, and logged, before."""
    limit = event.assoc.ae.maximum_associations
    peer = describe_peer(event.assoc)
    LOGGER.warning("rejected: %s: as many associations as allowed are open (%d)", peer, limit)


def log_useless_association(event: evt.Event) -> None:
    """Log an association of which no presentation context was accepted: its peer can send nothing."""
    association = event.assoc
    if association.accepted_contexts:
        return
    classes = list(dict.fromkeys(context.abstract_syntax for context in association.rejected_contexts))
    names = ", ".join(printable(getattr(each, "name", str(each))) for each in classes[:MAX_LOGGED_CLASSES])
    more = ", ..." if len(classes) > MAX_LOGGED_CLASSES else ""
    LOGGER.warning(
        "nothing accepted: %s offers %s%s; CT images are accepted, in syntaxes that can be decoded",
        describe_peer(association),
        names,
        more,
    )
