"""Callbacks that check options whose text stands for something else, when the command line or the file is read.

A configuration file is then checked without running its command, and an error names the option and its line.
"""

from collections.abc import Callable
from typing import Any

import typer

from ct3d_edge.cli.logs import to_option_names
from ct3d_edge.errors import UsageError


def checked_by(parse: Callable[[str], object]) -> Callable[[Any], Any]:
    """A callback that passes values on which ``parse`` takes; it makes its UsageError one of the option."""

    def check(value: Any) -> Any:
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str):  # None if it is left out; a value of another type is an error of its own
                try:
                    parse(text)
                except UsageError as error:
                    raise typer.BadParameter(to_option_names(str(error))) from error
        return value

    return check


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
