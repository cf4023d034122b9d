"""The network side of a node: connections of known addresses only, and bounds on what a peer can make it hold.

pynetdicom reads what a peer announces, however long it is and however long it takes. Here a PDU has a largest size and
a time within which it has to be there, an instance has a largest size, the TLS handshake of one peer keeps no other
waiting, and an association ends with its connection, whatever its peer sent.
"""

import ipaddress
import logging
import socket
import ssl
import time
from typing import Any, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from ct3d_edge.formatting import format_bytes
from ct3d_edge.node.association_log import AssociationLog
from ct3d_edge.node.config import Limits, Network

LOGGER = logging.getLogger(__name__)

MIN_PDU_LIMIT = 1 << 17
"""Bytes that a PDU may have in any case: a request for an association is not bound by the size that is negotiated."""

SPARE_CONNECTIONS = 8
"""Connections beyond the number of associations: so many more get the answer that there are too many."""

MAX_LOGGED_ADDRESSES = 1000
"""Addresses of no peer that are logged."""

MAX_WAITING_MESSAGES = 4
"""Messages that a peer may send before it has an answer; without asynchronous operations it is one."""


INVALID_PDU = "Evt19"
"""Event of pynetdicom's state machine."""


class LimitError(ConnectionError):
    """A peer exceeds a limit; its connection is closed."""


class BoundedSocket(AssociationSocket):
    """The connection of an association, with limits of size and time."""

    _limits: Limits
    _log: AssociationLog

    @classmethod
    def replace(cls, association: Association, limits: Limits, log: AssociationLog) -> None:
        """Have an association read through such a socket."""
        bounded = cls.__new__(cls)
        bounded.__dict__.update(cast(AssociationSocket, association.dul.socket).__dict__)
        bounded._limits, bounded._log = limits, log
        association.dul.socket = bounded

    def recv(self, nr_bytes: int) -> bytearray:
        """Read that many bytes; fewer if the peer closes the connection.

        Raises
        ------
        LimitError
            If the PDU or the message is too large.
        TimeoutError
            If the bytes do not come in time.
        """
        try:
            self._check_sizes(nr_bytes)
            return self._receive(nr_bytes)
        except LimitError as error:
            self._log.log_abort(error)
            raise
        except TimeoutError:
            self._log.log_silence(self._limits.network_timeout)
            raise

    def _receive(self, nr_bytes: int) -> bytearray:
        connection = cast(socket.socket, self.socket)
        buffer, received = bytearray(nr_bytes), 0
        deadline = time.monotonic() + self._limits.network_timeout
        with memoryview(buffer) as view:
            while received < nr_bytes:
                connection.settimeout(max(deadline - time.monotonic(), 1e-3))
                count = connection.recv_into(view[received:])
                if not count:
                    break
                received += count
        connection.settimeout(self._limits.network_timeout)  # for what is sent
        del buffer[received:]
        return buffer

    def _shutdown_socket(self) -> None:
        """Close the connection, also when the peer has closed it before: pynetdicom leaves it open then."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()

    def _check_sizes(self, nr_bytes: int) -> None:
        most = max(self._limits.max_pdu, MIN_PDU_LIMIT)
        if nr_bytes > most:
            raise LimitError(f"a PDU of {format_bytes(nr_bytes)}; it may have {format_bytes(most)}")
        dimse = self.assoc.dimse
        if dimse.msg_queue.qsize() > MAX_WAITING_MESSAGES:
            raise LimitError("messages were sent without waiting for the answers")
        message = dimse.message
        if message is None:
            return
        size = message.encoded_command_set.tell() + (message.data_set.tell() if message.data_set else 0)
        if size + nr_bytes > self._limits.max_instance_bytes:
            raise LimitError(f"an instance of more than {format_bytes(self._limits.max_instance_bytes)}")


class NodeRequestHandler(RequestHandler):
    """Makes the association of a connection."""

    server: "NodeServer"

    def _create_association(self) -> Association:
        association = super()._create_association()
        log = AssociationLog(association, lambda: self.server.is_stopping)
        BoundedSocket.replace(association, self.server.limits, log)
        guard_state_machine(association, log)
        association.bind(evt.EVT_CONN_CLOSE, end_wait_for_request)
        self.server.associations.append(association)
        return association


class NodeServer(ThreadedAssociationServer):
    """Accepts connections; see `configure`."""

    daemon_threads = True
    limits = Limits()
    networks: tuple[Network, ...] = ()
    tls: ssl.SSLContext | None = None
    is_stopping = False

    def configure(self, limits: Limits, networks: tuple[Network, ...], tls: ssl.SSLContext | None) -> None:
        """Set limits, the addresses that may connect, and TLS. Call it before `serve_forever`."""
        self.limits, self.networks, self.tls = limits, networks, tls
        self._strangers: set[str] = set()
        self.associations: list[Association] = []

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether a connection may go on: its address belongs to a peer, and there are not too many connections."""
        address = str(client_address[0]).partition("%")[0]
        if not is_in_networks(address, self.networks):
            if address not in self._strangers and len(self._strangers) < MAX_LOGGED_ADDRESSES:
                LOGGER.warning("refused: %s connects, which is no address of a peer; logged once", address)
                self._strangers.add(address)
            return False
        if len(self.active_associations) >= self.limits.max_associations + SPARE_CONNECTIONS:
            LOGGER.warning("refused: a connection of %s; too many are open", address)
            return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands where there is TLS, in this connection's own thread, and start the association."""
        request.settimeout(self.limits.network_timeout)
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError as error:
                reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
                LOGGER.warning("refused: TLS with %s failed: %s", client_address[0], reason)
                self.shutdown_request(request)
                return
        super().finish_request(request, client_address)

    def service_actions(self) -> None:
        """Close the connections of associations that have ended; pynetdicom leaves that of a rejected one open."""
        super().service_actions()
        for association in tuple(self.associations):
            if association.ident is not None and not association.is_alive():  # it was started and has ended
                self.associations.remove(association)
                close_connection(association)

    def abort_associations(self) -> None:
        """Abort the associations that are open, and close their connections."""
        self.is_stopping = True
        for association in self.active_associations:
            association.abort()
        for association in self.associations:
            close_connection(association)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an unexpected error of one connection; the others go on."""
        LOGGER.error("the connection of %s failed", client_address[0], exc_info=True)


def guard_state_machine(association: Association, log: AssociationLog) -> None:
    """Abort an association whose peer sends what pynetdicom cannot decode; without this its thread would not end.

    A command set without CommandDataSetType is such a message.
    """
    dul = association.dul
    act = dul.state_machine.do_action

    def do_action(event: str) -> None:
        if event == INVALID_PDU:
            log.log_abort("what it sent is no PDU of DICOM, or not one that is expected")
        try:
            act(event)
        except Exception as error:
            log.log_abort(f"a message cannot be decoded: {error!r}")
            if event != INVALID_PDU and association.is_established:
                dul.event_queue.put(INVALID_PDU)  # which aborts it by the rules of the protocol
                return
            association.is_aborted, association.is_established = True, False
            dul.to_user_queue.put(cast(Any, None))
            association._kill = True
            dul.kill_dul()

    dul.state_machine.do_action = do_action  # type: ignore[method-assign]


def end_wait_for_request(event: evt.Event) -> None:
    """Have an association end whose connection was closed before there was a request; it would wait for its timeout."""
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(cast(Any, None))


def close_connection(association: Association) -> None:
    """Close what an association was read from, if it is still open."""
    connection = association.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.close()


def is_in_networks(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an IP address, perhaps an IPv4 one in the form of IPv6, is in one of the networks."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
