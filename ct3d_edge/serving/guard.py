"""What every request passes: framing, token, log line, metrics and headers of the response."""

import hmac
import logging
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ct3d_edge.errors import Ct3dError
from ct3d_edge.serving.request_error import RequestError
from ct3d_edge.serving.service import OUTCOME, Service

LOGGER = logging.getLogger(__name__)

PUBLIC_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Without a token, for orchestrators; they show only whether the server works."""

RESPONSE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class RequestGuard:
    """An ASGI middleware around all routes.

    The log has method, route, status, time and a random number for each request: no names, addresses or queries.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number, begun, status = secrets.token_hex(4), time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *RESPONSE_HEADERS, (b"x-request-id", number.encode())]
            await send(message)

        try:
            refusal = self._find_refusal(Request(scope))
            await (to_response(refusal, scope) if refusal else self._app)(scope, receive, send_with_headers)
        finally:
            self._report(scope, number, status, time.perf_counter() - begun)

    def _find_refusal(self, request: Request) -> RequestError | None:
        """Why a request is not answered at all."""
        headers = request.headers
        if "content-length" in headers and "transfer-encoding" in headers:  # RFC 9112, 6.1: proxies may differ
            return RequestError(400, "bad_framing", "Content-Length and Transfer-Encoding exclude each other.")
        path = request.scope["path"]  # not that of `request.url`, which holds the client's Host header
        if not self._service.tokens or path in PUBLIC_PATHS:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode("latin-1")
        matches = [hmac.compare_digest(given, each) for each in self._service.tokens]
        if scheme.lower() == "bearer" and any(matches):
            return None
        return RequestError(
            401, "no_token", "Send a token as Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
        )

    def _report(self, scope: Scope, number: str, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "(none)")
        method = scope["method"] if scope["method"] in (getattr(route, "methods", None) or ()) else "(any)"
        self._service.metrics.add_request(method, path, status, seconds)
        outcome = f" {scope[OUTCOME]}" if OUTCOME in scope else ""
        level = logging.DEBUG if path in (*PUBLIC_PATHS, "/metrics") else logging.INFO
        LOGGER.log(level, "%s %s %s: %s%s (%.0f ms)", number, method, path, status or "aborted", outcome, 1e3 * seconds)


def to_response(error: RequestError, scope: Scope) -> Response:
    """The response of a request that fails; those of ``/v2`` have the protocol's form."""
    scope.setdefault(OUTCOME, error.code)
    inference = scope["path"] == "/v2" or scope["path"].startswith("/v2/")
    content = str(error) if inference else {"code": error.code, "message": str(error)}
    headers = dict(error.headers)
    if error.code == "bad_framing":
        headers["Connection"] = "close"
    return JSONResponse({"error": content}, error.status, headers)


async def handle_request_error(request: Request, error: Exception) -> Response:
    """Respond to a `RequestError`."""
    return to_response(error if isinstance(error, RequestError) else _internal_error(), request.scope)


async def handle_user_error(request: Request, error: Exception) -> Response:
    """Respond to an error of the session; its sentence is for the operator."""
    LOGGER.error("error: %s", error)
    failed = RequestError(500, "session_failed", "The server cannot run the model; its log has the reason.")
    return to_response(failed, request.scope)


async def handle_disconnect(request: Request, _: Exception) -> Response:
    """The client is gone: nobody reads this response."""
    return to_response(RequestError(400, "disconnected", "The connection ended before the body."), request.scope)


async def handle_routing_error(request: Request, error: Exception) -> Response:
    """Respond to an unknown path or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    reason = {404: "There is nothing at this path", 405: "This path does not take this method"}.get(status, "Failed")
    return to_response(RequestError(status, "bad_path", f"{reason}; /openapi.json has all.", headers), request.scope)


async def handle_bug(request: Request, error: Exception) -> Response:
    """Respond to any other error; the traceback is on standard error and in the log file."""
    traceback.print_exception(error, file=sys.stderr)
    LOGGER.critical("bug: %r", error, exc_info=error, extra={"file_only": True})
    return to_response(_internal_error(), request.scope)


def _internal_error() -> RequestError:
    return RequestError(500, "internal", "ct3d-edge failed on this request. Please report it.")


ERROR_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    RequestError: handle_request_error,
    Ct3dError: handle_user_error,
    ClientDisconnect: handle_disconnect,
    ConnectionError: handle_disconnect,
    HTTPException: handle_routing_error,
    Exception: handle_bug,
}
