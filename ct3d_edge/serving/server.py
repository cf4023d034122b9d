"""Run the server until a signal ends it: running requests finish, new ones are refused."""

import asyncio
import logging
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from ssl import SSLContext

import uvicorn
from starlette.applications import Starlette

from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.serving.app import make_app
from ct3d_edge.serving.config import ServerConfig, bind_socket, read_tokens
from ct3d_edge.serving.http_protocol import limit_connections
from ct3d_edge.serving.metrics import Metrics
from ct3d_edge.serving.served_model import ServedModel, default_model_name, open_served_model
from ct3d_edge.serving.service import Service
from ct3d_edge.serving.spool import open_spool
from ct3d_edge.serving.work_queue import WorkQueue
from ct3d_edge.session.run_report import RunReport
from ct3d_edge.system.tls import describe_expiry, make_server_context

LOGGER = logging.getLogger(__name__)

MODEL_CHECK_S = 5.0
"""Seconds between two looks at the model file."""

MAX_HEADER_BYTES = 32 << 10

BACKLOG = 1024
"""Connections that wait until they are accepted."""


def serve(
    model: Path | None,
    inference: InferenceConfig,
    config: ServerConfig,
    workers: int | None = None,
    on_open: Callable[[RunReport], None] = lambda _: None,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Parameters
    ----------
    model
        The file; the bundled model if None.
    workers
        Requests worked on at the same time; from cores and memory if None.
    on_open
        Called with the run report when the session is open.

    Raises
    ------
    UsageError, OutputError
        If token file or certificate cannot be used, the port is taken, or no temporary folder can be made.
    ModelError, ContractError, ProviderError
        If the model cannot be used here.
    """
    with ExitStack() as stack:
        context = _open_tls(config)
        tokens = read_tokens(config.token_file) if config.token_file else ()
        bound = stack.enter_context(bind_socket(config.host, config.port))
        spool = stack.enter_context(open_spool(config.temp_dir))
        least = config.limits.min_free_bytes
        if shutil.disk_usage(spool).free < least:
            LOGGER.warning("uploads get 507: %s has less than %s of free space", spool.parent, format_bytes(least))
        served = stack.enter_context(open_served_model(model, inference, workers))
        on_open(served.run_report)
        queue = WorkQueue(served.workers, config.limits.queue_size)
        stack.callback(queue.close)
        metrics = Metrics(served.run_report, queue, lambda: served.failure is None)
        name = config.model_name or default_model_name(model or served.file.path)
        app = make_app(Service(served, name, queue, spool, metrics, config.limits, tokens))
        log_start = partial(_log_start, config, served, name, bound)
        _run(_with_model_checks(app, served), config, context, bound, log_start)


class _Server(uvicorn.Server):
    """uvicorn's server, which SIGHUP ends as SIGTERM does, and with a time limit for TLS handshakes.

    ``on_start`` is called when clients may connect and signals end it.
    """

    def __init__(self, config: uvicorn.Config, handshake_timeout: float, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._handshake_timeout, self._on_start = handshake_timeout, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called in the event loop before connections are accepted."""
        hangup = getattr(signal, "SIGHUP", None)
        if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:  # as under nohup
            signal.signal(hangup, self.handle_exit)
        if self.config.is_ssl:  # uvicorn has no setting for this
            loop = asyncio.get_running_loop()
            limited = partial(loop.create_server, ssl_handshake_timeout=self._handshake_timeout)
            loop.create_server = limited  # type: ignore[method-assign]
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when a signal came; ends when the running requests have their responses, or the time is over."""
        LOGGER.info("stopping: running requests finish, new ones are refused")
        await super().shutdown(sockets)


def _run(
    app: Starlette,
    config: ServerConfig,
    context: SSLContext | None,
    bound: socket.socket,
    on_start: Callable[[], None],
) -> None:
    limits = config.limits
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # errors have their own log lines
    settings = uvicorn.Config(
        app,
        http=limit_connections(limits.max_connections, limits.body_timeout),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.body_timeout) + 1,
        timeout_graceful_shutdown=max(1, round(config.shutdown_timeout)),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has ended
        _Server(settings, limits.body_timeout, on_start).run([bound])
    LOGGER.info("stopped")


def _open_tls(config: ServerConfig) -> SSLContext | None:
    if config.tls is None:
        return None
    context = make_server_context(config.tls)
    if warning := describe_expiry(config.tls):
        LOGGER.warning(warning)
    return context


def _log_start(config: ServerConfig, served: ServedModel, name: str, bound: socket.socket) -> None:
    if not config.encrypted_or_local:
        LOGGER.warning("without a certificate scans cross the network unencrypted")
    host, port = bound.getsockname()[:2]
    scheme, shown = "https" if config.tls else "http", f"[{host}]" if ":" in host else host
    LOGGER.info(
        "serving %s at %s://%s:%d: %s, %d may wait; Ctrl-C ends it",
        name,
        scheme,
        shown,
        port,
        f"{plural(served.workers, 'request')} at a time, {plural(served.schedule.threads, 'thread')} each",
        config.limits.queue_size,
    )


def _with_model_checks(app: Starlette, served: ServedModel) -> Starlette:
    """Look at the model file for as long as the application runs."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(MODEL_CHECK_S)
            await asyncio.to_thread(served.log_replacement)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(watch())
        yield
        task.cancel()

    app.router.lifespan_context = lifespan
    return app
