"""Bodies that bypass h11 arrive whole, whatever their size and however they are cut into pieces."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ct3d_edge.serving.http_protocol import BLOCK_BYTES, HEAD_BYTES, limit_connections

from .conftest import wait_until

SIZES = [1, HEAD_BYTES - 1, HEAD_BYTES, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7]


async def digest(request: Request) -> PlainTextResponse:
    """SHA-256 of the body, and how many pieces it came in."""
    hashed, pieces = hashlib.sha256(), 0
    async for piece in request.stream():
        hashed.update(piece)
        pieces += bool(piece)
    return PlainTextResponse(f"{hashed.hexdigest()} {pieces}.")


async def refuse(_: Request) -> PlainTextResponse:
    return PlainTextResponse("refused.", 413)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Starlette(routes=[Route("/digest", digest, methods=["POST"]), Route("/refuse", refuse, methods=["POST"])])
    config = uvicorn.Config(app, http=limit_connections(9, 20), ws="none", log_config=None, port=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "start")
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def request_for(path: str, body: bytes) -> bytes:
    return b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body


def random_body(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def read_responses(connection: socket.socket, number: int) -> list[str]:
    """The bodies of so many responses; each ends with a full stop."""
    received = b""
    while received.count(b".") < number + received.count(b"HTTP/1.1"):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return [part.partition("\r\n\r\n")[2] for part in received.decode().split("HTTP/1.1")[1:]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [HEAD_BYTES // 3, 10 * BLOCK_BYTES])
def test_every_byte_arrives_and_the_next_request_of_a_pipeline_too(port: int, size: int, piece: int) -> None:
    bodies = [random_body(size), random_body(size + 100)]
    sent = b"".join(request_for("digest", body) for body in bodies)
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        for start in range(0, len(sent), piece):
            connection.sendall(sent[start : start + piece])
        found = read_responses(connection, 2)
    assert [text.split()[0] for text in found] == [hashlib.sha256(body).hexdigest() for body in bodies]


@pytest.mark.parametrize("size", SIZES)
def test_the_body_of_a_refused_request_is_dropped(port: int, size: int) -> None:
    body = random_body(size)
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(request_for("refuse", body) + request_for("digest", body))
        refused, digested = read_responses(connection, 2)
    assert refused == "refused."
    assert digested.split()[0] == hashlib.sha256(body).hexdigest()


def test_the_handler_of_a_slow_body_gets_what_has_come(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(request_for("digest", bytes(300))[:-200])
        for _ in range(2):
            time.sleep(1.2)
            connection.sendall(bytes(100))
        (found,) = read_responses(connection, 1)
    assert found == f"{hashlib.sha256(bytes(300)).hexdigest()} 3."
