"""Receives instances: which peers may send, and what they are answered."""

import errno
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ct3d_edge.errors import UnreadableScanError, UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.node.association_server import NodeRequestHandler, NodeServer, is_in_networks
from ct3d_edge.node.completion import SeriesTracker
from ct3d_edge.node.config import Network, NodeConfig
from ct3d_edge.node.spool import Spool
from ct3d_edge.scan.dicom.instance import CT_CLASSES
from ct3d_edge.scan.dicom.instance_identity import InstanceIdentity, is_uid, read_identity
from ct3d_edge.scan.dicom.tags import read_text, without_warnings
from ct3d_edge.scan.dicom.transfer_syntaxes import find_readable_syntaxes
from ct3d_edge.system.tls import make_server_context

LOGGER = logging.getLogger(__name__)

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
"""Statuses of C-STORE (PS3.4, B.2.3)."""

REJECTED_PERMANENTLY, BY_SERVICE_USER, CALLING_TITLE, CALLED_TITLE = 1, 1, 3, 7
"""Result, source and reasons of a rejected association (PS3.8, 9.3.4)."""

MAX_COMMENT_LENGTH = 64


class RefusedInstance(Exception):
    """An instance that is not stored: the reason, and the status for the peer."""

    def __init__(self, reason: str, status: int = CANNOT_UNDERSTAND) -> None:
        super().__init__(reason)
        self.status = status

    def to_dataset(self) -> Dataset:
        """Status and reason as the peer gets them."""
        answer = Dataset()
        answer.Status, answer.ErrorComment = self.status, str(self)[:MAX_COMMENT_LENGTH]
        return answer


class Receiver:
    """The server of a node.

    Parameters
    ----------
    config
        Of the node.
    spool
        Where instances go.
    tracker
        What is to know of them.

    Raises
    ------
    UsageError
        If a peer has no address, a certificate cannot be used, or the port is taken.
    """

    def __init__(self, config: NodeConfig, spool: Spool, tracker: SeriesTracker) -> None:
        self._config, self._spool, self._tracker = config, spool, tracker
        self._networks = [(peer.ae_title, peer.networks()) for peer in config.peers]
        self._logged: dict[int, set[str]] = {}
        self._entity = _make_entity(config)
        self._server = self._bind()
        self._thread = threading.Thread(target=self._server.serve_forever, name="ct3d-edge node", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Accept associations from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no further associations and abort those there are."""
        if self._thread.is_alive():
            self._server.shutdown()
        else:
            self._server.server_close()
        self._server.abort_associations()

    def _bind(self) -> NodeServer:
        config = self._config
        tls = make_server_context(config.tls) if config.tls else None
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_ABORTED, self._on_aborted),
        ]
        try:
            server = self._entity.make_server(
                (config.host, config.port),
                evt_handlers=handlers,  # type: ignore[arg-type]
                server_class=NodeServer,
                request_handler=NodeRequestHandler,
            )
        except OSError as error:
            raise UsageError(_bind_failure(config, error)) from error
        assert isinstance(server, NodeServer)  # noqa: S101 - made by that class
        server.configure(config.limits, tuple(network for _, each in self._networks for network in each), tls)
        self._entity._servers.append(server)
        return server

    def _on_requested(self, event: evt.Event) -> None:
        """Reject an association of an unknown peer, or one that calls another node."""
        requestor = event.assoc.requestor
        request = cast(A_ASSOCIATE, requestor.primitive)
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        address = requestor.address
        if not self._knows(calling, address):
            reason, why = CALLING_TITLE, f"calls itself {calling}, and there is no such peer at its address"
        elif called != self._config.ae_title:
            reason, why = CALLED_TITLE, f"({calling}) calls {called}; this node is {self._config.ae_title}"
        else:
            return
        LOGGER.warning("rejected: %s %s", address, why)
        event.assoc.acse.send_reject(REJECTED_PERMANENTLY, BY_SERVICE_USER, reason)
        event.assoc.kill()

    def _knows(self, title: str, address: str) -> bool:
        known: Iterable[tuple[Network, ...]] = (networks for name, networks in self._networks if name == title)
        return any(is_in_networks(address, networks) for networks in known)

    def _on_store(self, event: evt.Event) -> Dataset | int:
        """Store an instance; the status for the peer."""
        try:
            return self._receive(event)
        except RefusedInstance as error:
            refusal = error
        except OSError as error:
            refusal = RefusedInstance(f"the spool cannot be written: {error.strerror or error}", OUT_OF_RESOURCES)
        self._note_refusal(event)
        self._log_once(event, str(refusal))
        return refusal.to_dataset()

    def _note_refusal(self, event: evt.Event) -> None:
        """Have the series of a refused instance wait for it; each of the association if the series cannot be read."""
        instance, series = str(cast(C_STORE, event.request).AffectedSOPInstanceUID), _read_series(event)
        if series is None:
            self._tracker.add_unread_refusal(instance, id(event.assoc))
        else:
            self._tracker.add_refusal(InstanceIdentity(series, instance))

    def _receive(self, event: evt.Event) -> int:
        request = _require_valid_request(event)
        data = event.encoded_dataset(include_meta=False)
        self._require_space(len(data))
        with self._spool.write_instance() as (stream, path):
            stream.write(bytes(128) + b"DICM" + encode_file_meta(event.file_meta))
            stream.write(data)
            stream.flush()
            identity = _identify(request, path)
            if limit := self._tracker.exceeded_limit(identity, len(data)):
                raise RefusedInstance(f"{limit}; {identity.series} has more.", OUT_OF_RESOURCES)
            os.fsync(stream.fileno())
            sender = id(event.assoc)
            self._spool.store(path, identity, lambda grown: self._tracker.add_instance(identity, grown, sender))
        return SUCCESS

    def _require_space(self, size: int) -> None:
        free, reserve = self._spool.free_bytes(), self._config.limits.min_free_bytes
        if free - size < reserve:
            raise RefusedInstance(
                f"The disk has {format_bytes(max(free, 0))} left; {format_bytes(reserve)} stay free.",
                OUT_OF_RESOURCES,
            )

    def _on_released(self, event: evt.Event) -> None:
        self._end(event, released=True)

    def _on_aborted(self, event: evt.Event) -> None:
        self._end(event, released=False)

    def _end(self, event: evt.Event, *, released: bool) -> None:
        self._logged.pop(id(event.assoc), None)
        self._tracker.end_association(id(event.assoc), released=released)

    def _log_once(self, event: evt.Event, reason: str) -> None:
        """Log why an instance was refused, once in an association: a thousand others may follow."""
        logged = self._logged.setdefault(id(event.assoc), set())
        if reason not in logged and len(logged) < 100:
            logged.add(reason)
            LOGGER.warning("refused: an instance of %s: %s", event.assoc.requestor.ae_title, reason)


def _read_series(event: evt.Event) -> str | None:
    """SeriesInstanceUID of a data set that is not stored; None if there is none, or it is deflated."""
    if event.context.transfer_syntax == DeflatedExplicitVRLittleEndian:  # it could take the memory
        return None
    try:
        with without_warnings():
            series = read_text(event.dataset, "SeriesInstanceUID")
    except Exception:  # pydicom raises whatever the bytes lead it to
        return None
    return series if is_uid(series) else None


def _require_valid_request(event: evt.Event) -> C_STORE:
    """Refuse a request that contradicts itself, before anything is written."""
    request = cast(C_STORE, event.request)
    if request.DataSet is None:
        raise RefusedInstance("The request has no data set.")
    if not is_uid(str(request.AffectedSOPInstanceUID)):
        raise RefusedInstance("The SOPInstanceUID of the request is no UID.")
    if request.AffectedSOPClassUID != event.context.abstract_syntax:
        raise RefusedInstance("The class is not that of the presentation context.", DOES_NOT_MATCH)
    return request


def _identify(request: C_STORE, path: Path) -> InstanceIdentity:
    """What a file holds, which is what the request announced."""
    try:
        identity = read_identity(path)
    except UnreadableScanError as error:
        raise RefusedInstance(str(error)) from error
    if (identity.sop_class, identity.instance) != (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID):
        raise RefusedInstance("Class or UID of request and data set differ.", DOES_NOT_MATCH)
    return identity


def _make_entity(config: NodeConfig) -> AE:
    """What is offered: verification, and storage of CT in every transfer syntax that is read."""
    entity = AE(ae_title=config.ae_title)
    entity.maximum_pdu_size = config.limits.max_pdu
    entity.maximum_associations = config.limits.max_associations
    entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = config.limits.network_timeout
    entity.add_supported_context(Verification)
    syntaxes = list(find_readable_syntaxes())
    for sop_class in CT_CLASSES:
        entity.add_supported_context(sop_class, syntaxes)
    return entity


def _bind_failure(config: NodeConfig, error: OSError) -> str:
    where = f"port {config.port} of {config.host}"
    if error.errno == errno.EADDRINUSE:
        return f"Another program listens on {where}. Stop it, or take another port with `port`."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This user may not listen on {where}; ports below 1024 are for privileged users. Take another: `port`."
    return f"Cannot listen on {where}: {error.strerror or error}. Is it an address of this machine (`host`)?"
