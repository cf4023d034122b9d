"""The settings of a DICOM node, checked when they are made."""

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ct3d_edge.errors import UsageError
from ct3d_edge.system.tls import TlsFiles

DEFAULT_PORT = 11112
"""Registered for DICOM with the Internet Assigned Numbers Authority; 104 needs a privileged user."""

MAX_TITLE_LENGTH = 16
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
"""An AE title: 1 to 16 printable ASCII characters without a backslash, no space at its ends (PS3.5, 6.2)."""

_PEER = re.compile(r"(?P<title>[^@]*)@(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d+))?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def require_ae_title(text: str, argument: str) -> str:
    """An AE title as it is.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not _TITLE.fullmatch(text):
        raise UsageError(
            f"An AE title has 1 to {MAX_TITLE_LENGTH} printable ASCII characters and no backslash; "
            f"found `{argument}={text}`."
        )
    return text


@dataclass(frozen=True)
class Peer:
    """Another DICOM node.

    Parameters
    ----------
    ae_title
        Its AE title.
    host
        Host name, IP address, or, of a peer that only sends, a network such as ``10.1.0.0/16``.
    port
        Where it listens; None if it only sends.
    """

    ae_title: str
    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str, argument: str) -> Self:
        """A peer from ``AET@HOST`` or ``AET@HOST:PORT``; an IPv6 address with a port is in square brackets.

        Raises
        ------
        UsageError
            If the text is something else.
        """
        found = _PEER.fullmatch(text)
        if found is None or not found["host"].strip("[]"):
            raise UsageError(f"A DICOM node is named AET@HOST:PORT, e.g. PACS@10.0.0.5:104; found `{argument}={text}`.")
        port = int(found["port"]) if found["port"] else None
        if port is not None and not 0 < port < 1 << 16:
            raise UsageError(f"A port is a number from 1 to 65535; found `{argument}={text}`.")
        peer = cls(require_ae_title(found["title"], argument), found["host"].strip("[]"), port)
        if "/" in peer.host:
            peer.networks()
        return peer

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}" + (f":{self.port}" if self.port else "")

    def networks(self) -> tuple[Network, ...]:
        """The addresses that it may call from.

        Raises
        ------
        UsageError
            If the host name has no address, or the network is none.
        """
        try:
            return (ipaddress.ip_network(self.host, strict=False),)
        except ValueError as error:
            if "/" in self.host:
                raise UsageError(f"A network is written ADDRESS/BITS, e.g. 10.1.0.0/16; found {self}.") from error
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UsageError(f"The host name of {self} has no address: {error}. Give an IP address.") from error
        return tuple(ipaddress.ip_network(str(entry[4][0]).partition("%")[0]) for entry in found)


def require_port(peer: Peer, argument: str) -> Peer:
    """A peer as it is, to which something can be sent.

    Raises
    ------
    UsageError
        If it has no port.
    """
    if peer.port is None:
        raise UsageError(f"A destination needs a port: `{argument}={peer}:PORT`.")
    return peer


@dataclass(frozen=True)
class Completion:
    """When a series is complete. The first of these conditions that holds decides.

    Parameters
    ----------
    stable_for
        Seconds without a new instance.
    on_release
        When all associations that sent instances of it were released by the peer.
    on_count
        When as many images are there as its instances declare (ImagesInAcquisition).
    """

    stable_for: float = 10.0
    on_release: bool = False
    on_count: bool = False


@dataclass(frozen=True)
class Limits:
    """What peers may take; beyond it an instance is refused with the status "out of resources" (A700).

    Parameters
    ----------
    max_pdu
        Bytes of a PDU. 1 MiB holds a slice of 512 x 512 in one; senders that allow less send less.
    max_associations
        At the same time; further ones are rejected.
    max_instance_bytes, max_series_bytes, max_instances
        Of one instance, of a series, and instances of a series.
    min_free_bytes
        Disk space that receiving leaves free.
    max_results_bytes
        Of the file of records; then a new one begins, and the one before the last is removed.
    network_timeout
        Seconds in which a PDU must have arrived, and after which a silent association is aborted.
    """

    max_pdu: int = 1 << 20
    max_associations: int = 16
    max_instance_bytes: int = 2 << 30
    max_series_bytes: int = 8 << 30
    max_instances: int = 10_000
    min_free_bytes: int = 1 << 30
    max_results_bytes: int = 64 << 20
    network_timeout: float = 30.0


@dataclass(frozen=True)
class MapKinds:
    """Which Grad-CAM maps are sent besides reports.

    Parameters
    ----------
    captures
        Slices under their map, as secondary captures.
    parametric
        Its values, as a parametric map.
    """

    captures: bool = False
    parametric: bool = False

    @property
    def any(self) -> bool:
        """Whether one is."""
        return self.captures or self.parametric


@dataclass(frozen=True)
class NodeConfig:
    """Everything about a node but its model.

    Parameters
    ----------
    spool
        Folder of everything that was received and is yet to be sent; made if it is not there.
    peers
        Nodes that may send.
    destinations
        Nodes that reports are sent to, with their ports.
    ae_title, host, port
        Own title, and the address to listen on.
    tls
        Certificates; None: without TLS.
    send_tls
        Whether reports are sent with TLS too.
    completion, limits
        See there.
    maps
        Which maps are sent besides reports.
    retention_hours
        How long a predicted series and its report stay in the spool.
    """

    spool: Path
    peers: tuple[Peer, ...]
    destinations: tuple[Peer, ...] = ()
    ae_title: str = "CT3D-EDGE"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls: TlsFiles | None = None
    send_tls: bool = False
    completion: Completion = field(default_factory=Completion)
    limits: Limits = field(default_factory=Limits)
    maps: MapKinds = MapKinds()
    retention_hours: float = 24.0

    def __post_init__(self) -> None:
        require_ae_title(self.ae_title, "ae_title")
        if not self.peers:
            raise UsageError("No peer may send anything. Name at least one: `peer=AET@HOST`.")
        for destination in self.destinations:
            require_port(destination, "send_to")
        if self.maps.any and not self.destinations:
            raise UsageError("Maps are for an archive. Name one: `send_to=AET@HOST:PORT`.")
        if self.send_tls and self.tls is None:
            raise UsageError("Sending with TLS needs a certificate: `tls_cert`, `tls_key` and `tls_ca`.")
        if repeated := {each.ae_title for each in self.destinations if self._titles().count(each.ae_title) > 1}:
            raise UsageError(f"Two destinations have the AE title {min(repeated)}; titles must differ.")

    def _titles(self) -> list[str]:
        return [destination.ae_title for destination in self.destinations]
