"""TLS of a node: both sides show a certificate of an authority that the other accepts."""

import ssl
import time

from ct3d_edge.errors import UsageError
from ct3d_edge.node.config import TlsFiles

WARNING_DAYS = 30
"""A certificate that expires within these days is worth a warning."""


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """The settings for peers that call: TLS 1.2 or later, and each must show a certificate.

    Raises
    ------
    UsageError
        If a file cannot be read, or certificate and key do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _load(context, files)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """The settings for calling destinations, whose certificate must name their host.

    Raises
    ------
    UsageError
        As `server_context`.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _load(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The certificates {files.certificate}, {files.key} and {files.ca} cannot be used: {error}"
        ) from error
    return context


def _refuse_password() -> str:
    raise ValueError("the key has a password. A node starts without anybody who could type it.")


def days_until_expiry(files: TlsFiles) -> float:
    """Days for which the node's certificate is still valid.

    The only way to its dates in the standard library is to show it to oneself.

    Raises
    ------
    UsageError
        If it has expired, or is not valid yet.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate vouches for itself
    client.load_verify_locations(files.certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server)
    answerer = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        _shake_hands(caller, answerer)
    except ssl.SSLCertVerificationError as error:
        raise UsageError(
            f"The certificate {files.certificate} is not valid: {error.verify_message}. Renew it."
        ) from error
    shown = caller.getpeercert() or {}
    return (ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()) / 86400


def expiry_warning(files: TlsFiles) -> str | None:
    """A sentence if the node's certificate expires soon.

    Raises
    ------
    UsageError
        As `days_until_expiry`.
    """
    days = days_until_expiry(files)
    return f"The certificate {files.certificate} expires in {days:.0f} days." if days < WARNING_DAYS else None


def _shake_hands(caller: ssl.SSLObject, answerer: ssl.SSLObject) -> None:
    pending = [caller, answerer]
    for _ in range(10):
        for side in tuple(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                continue
        if caller not in pending:
            return
