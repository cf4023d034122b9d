"""What the endpoints of one server share."""

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from ct3d_edge.serving.config import ServerLimits
from ct3d_edge.serving.metrics import Metrics
from ct3d_edge.serving.served_model import ServedModel
from ct3d_edge.serving.work_queue import WorkQueue


@dataclass(frozen=True)
class Service:
    """Model, queue, folder and limits.

    Parameters
    ----------
    model
        The open model.
    name
        Its name in paths.
    queue
        Where requests wait for a worker.
    spool
        Folder for the files of requests.
    metrics
        Of this server.
    limits
        Of this server.
    tokens
        One of which requests need; empty if they need none.
    """

    model: ServedModel
    name: str
    queue: WorkQueue
    spool: Path
    metrics: Metrics
    limits: ServerLimits
    tokens: tuple[bytes, ...] = ()


async def wait_for_disconnect(request: Request) -> None:
    """Complete when the client closes the connection; call it after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


OUTCOME = "ct3d.outcome"


def set_outcome(request: Request, outcome: str) -> None:
    """Add a word to the log line of a request: the status of a scan, or a failure code."""
    request.scope[OUTCOME] = outcome
