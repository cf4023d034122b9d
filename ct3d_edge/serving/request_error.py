"""Requests that cannot be answered: an HTTP status, a stable code and a sentence."""

from collections.abc import Mapping
from typing import Any


class RequestError(Exception):
    """Ends a request.

    Parameters
    ----------
    status
        HTTP status.
    code
        Stable and machine-readable, such as ``"body_too_large"``.
    message
        A sentence for the person who sent the request.
    headers
        Further headers of the response.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all arguments."""
        return type(self), (self.status, self.code, str(self), self.headers)
