"""Checks of options whose text stands for something else; see `ct3d_edge.cli.click_extras.checked_by`.

They run when the command line or the file is read. A configuration file is then checked without running its command,
and an error names the option and its line.
"""


def parse_peer(text: str) -> object:
    """A node that may send."""
    from ct3d_edge.node.config import Peer

    return Peer.parse(text, "peer")


def parse_destination(text: str) -> object:
    """A node that reports are sent to."""
    from ct3d_edge.node.config import Peer, require_port

    return require_port(Peer.parse(text, "send_to"), "send_to")


def parse_ae_title(text: str) -> object:
    """An AE title."""
    from ct3d_edge.node.config import require_ae_title

    return require_ae_title(text, "ae_title")


def parse_check_code(text: str) -> object:
    """A quality check that may count less."""
    from ct3d_edge.quality_control.check_registry import require_downgradable

    return require_downgradable([text])
