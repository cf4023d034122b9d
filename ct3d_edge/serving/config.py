"""The settings of a server, checked before anything is opened."""

import errno
import ipaddress
import socket
import stat
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ct3d_edge.errors import OutputError, UsageError
from ct3d_edge.system.tls import TlsFiles

MIN_TOKEN_LENGTH = 16
"""Characters of a token; ``openssl rand -hex 32`` writes 64."""

OTHERS = stat.S_IRWXO


@dataclass(frozen=True)
class ServerLimits:
    """What one client, and all of them together, may take.

    Parameters
    ----------
    queue_size
        Requests beside those that a worker runs; one more gets 503 with ``Retry-After``, before its body is read.
    max_upload
        Bytes of a request's body.
    max_files
        Files in a zip archive or multipart body.
    max_connections
        Open connections; one more gets 503.
    body_timeout
        Seconds for which a body may fall behind `MIN_RATE`.
    scan_timeout
        Seconds for a scan; the record then has the failure ``timeout``. Tensors have no such limit; ``max_upload``
        and the shapes of the inputs bound the work.
    min_free_bytes
        Disk space in the folder of uploads that bodies leave free; one that would not gets 507.
    """

    queue_size: int = 32
    max_upload: int = 1 << 30
    max_files: int = 10_000
    max_connections: int = 256
    body_timeout: float = 30.0
    scan_timeout: float = 300.0
    min_free_bytes: int = 256 << 20

    @property
    def max_unpacked(self) -> int:
        """Bytes of the files in a zip archive."""
        return 4 * self.max_upload


@dataclass(frozen=True)
class ServerConfig:
    """Where a server listens, whom it serves and within which limits.

    Parameters
    ----------
    host, port
        Address; port 0 takes a free one.
    token_file
        File with one token per line; requests need one of them as ``Authorization: Bearer TOKEN``.
    tls
        Certificate and key of the server, and the authority of its clients' certificates.
    allow_anonymous
        Permit other machines without token and client certificate.
    temp_dir
        Where uploads are stored while they are predicted; the system's folder if None.
    model_name
        Name in the paths of the Open Inference Protocol; that of the file if None.
    shutdown_timeout
        Seconds that running requests get after SIGTERM.

    Raises
    ------
    UsageError
        If other machines could send requests without token and client certificate.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    tls: TlsFiles | None = None
    allow_anonymous: bool = False
    temp_dir: Path | None = None
    model_name: str | None = None
    shutdown_timeout: float = 60.0
    limits: ServerLimits = field(default_factory=ServerLimits)

    def __post_init__(self) -> None:
        authenticated = self.token_file or (self.tls and self.tls.ca)
        if not (authenticated or self.allow_anonymous or is_loopback(self.host)):
            raise UsageError(
                f"Other machines can reach {self.host}, and anybody there could send scans. Give `token_file` or "
                "`client_ca`; `allow_anonymous=True` serves everybody."
            )

    @property
    def encrypted_or_local(self) -> bool:
        """Whether scans never cross a network unencrypted."""
        return self.tls is not None or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """The tokens of a file, one per line, so that a new one can be added before the old one goes.

    Raises
    ------
    UsageError
        If the file cannot be read, others can read it, it holds no token or one that is too short.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise UsageError(
            f"The token file {path} cannot be read: there is no such file. "
            f"Make one: (umask 077; openssl rand -hex 32 > {path})"
        ) from error
    except OSError as error:
        raise UsageError(f"The token file {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The token file {path} cannot be read: {error}.") from error
    if mode & OTHERS:
        raise UsageError(f"Every user of this machine can open the token file {path}: chmod 600 {path}")
    tokens = [line.strip() for line in text.splitlines() if line.strip()]
    if not tokens or min(map(len, tokens)) < MIN_TOKEN_LENGTH:
        raise UsageError(
            f"The token file {path} needs one token of at least {MIN_TOKEN_LENGTH} characters per line: "
            f"openssl rand -hex 32 > {path}"
        )
    return tuple(token.encode() for token in tokens)


def bind_socket(host: str, port: int) -> socket.socket:
    """A socket with the address, which does not listen yet.

    Raises
    ------
    UsageError, OutputError
        If the address is not one of this machine, or the port is taken or reserved.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            bound = stack.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            stack.pop_all()  # open for the caller
    except PermissionError as error:
        raise OutputError(
            f"Port {port} cannot be used: {error.strerror}. Ports from 1024 on need no rights."
        ) from error
    except OSError as error:
        hint = "Stop what uses the port, or name another `port`."
        if error.errno != errno.EADDRINUSE:
            hint = "Is it an address of this machine (`host`)?"
        raise UsageError(f"Cannot listen on {host} port {port}: {error.strerror}. {hint}") from error
    return bound
