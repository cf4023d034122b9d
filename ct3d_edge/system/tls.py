"""TLS: certificates, their settings for listening and for calling, and when they expire."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ct3d_edge.errors import UsageError

EXPIRY_CODES = {
    9: "is not valid yet. Is the clock of this machine right?",
    10: "has expired. Renew it, then start again.",
}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

EXPIRY_WARNING = timedelta(days=30)
"""A certificate that expires sooner is worth a warning."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Parameters
    ----------
    certificate
        Certificate of this machine, with those between it and its authority.
    key
        Its private key; in ``certificate`` if None.
    ca
        Authorities of the certificates of the other side; if given, each caller must show one (mutual TLS).
    """

    certificate: Path
    key: Path | None = None
    ca: Path | None = None


def make_server_context(files: TlsFiles) -> ssl.SSLContext:
    """The settings for listening: TLS 1.2 or later.

    Raises
    ------
    UsageError
        If a file cannot be read, or key and certificate do not belong together.
    """
    context = _load(ssl.PROTOCOL_TLS_SERVER, files)
    if files.ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_client_context(files: TlsFiles) -> ssl.SSLContext:
    """The settings for calling others, whose certificate must name their host: TLS 1.2 or later.

    Raises
    ------
    UsageError
        As `make_server_context`.
    """
    return _load(ssl.PROTOCOL_TLS_CLIENT, files)


def _load(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key, password=_reject_password)
    except (OSError, ValueError) as error:
        names = " and ".join(str(path) for path in (files.certificate, files.key) if path)
        raise UsageError(f"The certificate {names} cannot be used: {_describe(error)}.") from error
    try:
        if files.ca:
            context.load_verify_locations(files.ca)
    except OSError as error:
        raise UsageError(f"The authority {files.ca} cannot be used: {_describe(error)}.") from error
    return context


def _reject_password() -> str:
    """Called by OpenSSL for an encrypted key; without it OpenSSL asks on the terminal."""
    raise ValueError("the key is encrypted; store it without a password, readable by this user only")


def _describe(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def read_expiry(files: TlsFiles) -> datetime:
    """When the certificate expires.

    The only way to its dates in the standard library: a client in memory verifies it and trusts it, so that nothing but
    its dates can be wrong.

    Raises
    ------
    UsageError
        If it has expired or is not valid yet, or cannot be used.
    """
    server = make_server_context(TlsFiles(files.certificate, files.key))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(files.certificate)
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
        other = f"is not valid: {error.verify_message}. Renew it, then start again."
        reason = EXPIRY_CODES.get(error.verify_code, other)
        raise UsageError(f"The certificate {files.certificate} {reason}") from error
    shown = ends[1].getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)


def describe_expiry(files: TlsFiles) -> str | None:
    """A sentence if the certificate expires soon; None if not.

    Raises
    ------
    UsageError
        As `read_expiry`.
    """
    expiry = read_expiry(files)
    if expiry - datetime.now(UTC) >= EXPIRY_WARNING:
        return None
    return f"The certificate {files.certificate} expires on {expiry:%Y-%m-%d}."
