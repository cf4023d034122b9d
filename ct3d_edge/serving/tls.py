"""Certificates of the server and of its clients, checked before the server starts."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ct3d_edge.errors import UsageError

EXPIRY_CODES = {9: "is not valid yet", 10: "has expired"}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Parameters
    ----------
    certificate
        The server's certificate, with those between it and the authority.
    key
        Its private key; in ``certificate`` if None.
    client_ca
        Authority of the clients' certificates; if given, clients need one (mutual TLS).
    """

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None


def make_ssl_context(files: TlsFiles) -> tuple[ssl.SSLContext, datetime]:
    """The server's TLS context (TLS 1.2 or later), and when its certificate expires.

    Raises
    ------
    UsageError
        If a file cannot be read, key and certificate do not belong together, or the certificate has expired.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key, password=_reject_password)
    except (OSError, ValueError) as error:
        names = " and ".join(str(path) for path in (files.certificate, files.key) if path)
        raise UsageError(f"The certificate {names} cannot be used: {_describe(error)}.") from error
    expires = _check_expiry(context, files.certificate)
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as error:
            raise UsageError(f"The authority {files.client_ca} cannot be used: {_describe(error)}.") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context, expires


def _reject_password() -> str:
    """Called by OpenSSL for an encrypted key; without it OpenSSL asks on the terminal."""
    raise ValueError("the key is encrypted; store it without a password, readable by this user only")


def _describe(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _check_expiry(server: ssl.SSLContext, certificate: Path) -> datetime:
    """Let a client in memory verify the certificate, trusting this one, so that only its dates can be wrong."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server))
    try:
        for _ in range(4):  # messages of a handshake in each direction
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        reason = EXPIRY_CODES.get(error.verify_code, f"is not valid: {error.verify_message}")
        raise UsageError(f"The certificate {certificate} {reason}. Renew it, then start again.") from error
    found = ends[1].getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)
