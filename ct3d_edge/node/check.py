"""What can be tried of a node's settings before it listens."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydicom.uid import Comprehensive3DSRStorage, ParametricMapStorage, SecondaryCaptureImageStorage

from ct3d_edge.errors import Ct3dError, UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import open_model
from ct3d_edge.node.completion import SeriesTracker
from ct3d_edge.node.config import NodeConfig, Peer
from ct3d_edge.node.delivery import Caller, DeliveryError
from ct3d_edge.node.receiver import Receiver
from ct3d_edge.node.spool import open_spool
from ct3d_edge.system.tls import describe_expiry, make_client_context, read_expiry


@dataclass(frozen=True)
class NodeCheck:
    """One thing that was tried: what, whether it works, and what was found."""

    name: str
    passed: bool
    detail: str


def check_node(config: NodeConfig) -> Iterator[NodeCheck]:
    """Try spool, port, certificates, and the peers and destinations that have a port (C-ECHO, classes sent)."""
    yield _try("spool", partial(_check_spool_and_port, config))
    if config.tls is not None:
        yield _try("certificate", partial(_check_certificate, config))
    for peer in config.peers:
        yield _try(f"peer {peer}", partial(_check_address, peer))
    classes = _sent_classes(config)
    named = {str(peer): peer for peer in (*config.peers, *config.destinations) if peer.port is not None}
    for name, peer in named.items():
        yield _try(f"C-ECHO {name}", partial(_check_echo, config, peer, classes if peer in config.destinations else []))


def check_model(model: Path | None, inference: InferenceConfig) -> NodeCheck:
    """Open the model."""

    def describe() -> str:
        with open_model(model, inference) as opened:
            opened.make_schedule()
            return opened.run_report.describe()

    return _try("model", describe)


def _try(name: str, check: Callable[[], str]) -> NodeCheck:
    try:
        return NodeCheck(name, True, check())
    except (Ct3dError, DeliveryError) as error:
        return NodeCheck(name, False, str(error))


def _check_spool_and_port(config: NodeConfig) -> str:
    with open_spool(config.spool) as spool:
        Receiver(config, spool, SeriesTracker(config.completion, config.limits)).stop()
    folder, free, reserve = spool.folder, spool.free_bytes(), config.limits.min_free_bytes
    if free < reserve:
        raise UsageError(
            f"{folder} has {format_bytes(free)} left; everything is refused below {format_bytes(reserve)}."
        )
    return f"{folder}, {format_bytes(free)} left; port {config.port} of {config.host} is free"


def _check_certificate(config: NodeConfig) -> str:
    assert config.tls is not None  # noqa: S101 - the caller looked
    return describe_expiry(config.tls) or f"valid until {read_expiry(config.tls):%Y-%m-%d}"


def _check_address(peer: Peer) -> str:
    return "may send from " + ", ".join(dict.fromkeys(str(network) for network in peer.networks()))


def _sent_classes(config: NodeConfig) -> list[str]:
    """SOP classes of what destinations are sent."""
    wanted = [
        (True, Comprehensive3DSRStorage),
        (config.maps.captures, SecondaryCaptureImageStorage),
        (config.maps.parametric, ParametricMapStorage),
    ]
    return [sop_class for is_sent, sop_class in wanted if is_sent]


def _check_echo(config: NodeConfig, peer: Peer, sop_classes: list[str]) -> str:
    tls = make_client_context(config.tls) if config.tls and config.send_tls else None
    start = time.perf_counter()
    Caller(config.ae_title, config.limits.network_timeout, tls).verify(peer, sop_classes)
    return f"answered in {(time.perf_counter() - start) * 1e3:.0f} ms"
