"""Connects to a Ray cluster, or starts Ray on this machine, and ends it."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ct3d_edge.errors import ProviderError
from ct3d_edge.system.machine import count_usable_cores

CONNECT_TIMEOUT_S = 5.0
"""For the cluster's address to answer at all; Ray itself tries for minutes."""

LOCAL_STORE_BYTES = 200_000_000
"""Shared memory of a Ray that is started here; only the model file is put into it."""


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Be connected to Ray. An existing connection of this process is used and stays.

    Parameters
    ----------
    address
        Of a running cluster; None starts Ray on this machine, with its usable cores.

    Raises
    ------
    ProviderError
        No cluster answers there, or one of another version of Ray or Python.
    """
    if address:
        _require_answer(address)
    import ray

    if ray.is_initialized():
        yield
        return
    local = {"num_cpus": count_usable_cores(), "object_store_memory": LOCAL_STORE_BYTES, "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else local))
    except (ConnectionError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ProviderError(
            f"Ray cannot be used at {address or 'this machine'}: {' '.join(lines)[:500]} "
            "Start a cluster with `ray start --head`, and use the same version of Ray and Python. A cluster that "
            "asks for a token needs RAY_AUTH_MODE=token and ~/.ray/auth_token here."
        ) from error
    for number, handler in handlers.items():  # Ray sets its own
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address at which nothing listens; other forms, such as ``auto``, are Ray's to resolve."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):(\d{1,5})", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ProviderError(
            f"No Ray cluster answers at {address}: {error}. Start one with `ray start --head`, or name its address."
        ) from error
