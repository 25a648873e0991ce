"""Rejections: a status and one sentence as JSON, and the headers that every answer has.

{"error": "there are 1,001 texts; send at most 1,000 at a time", "error_type": "too_large"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
ERROR_TYPES = {
    400: "validation",
    401: "unauthorized",
    404: "not_found",
    405: "not_allowed",
    408: "timeout",
    413: "too_large",
    414: "too_large",
    421: "host",
    422: "validation",
    429: "overloaded",
    431: "too_large",
    503: "overloaded",
    504: "overloaded",
}
CLIENT_GONE = 499  # nginx's status for a client that disconnected; nobody receives it, but the log shows it
CLOSING = {"connection": "close"}


class RejectedError(Exception):
    """A request is rejected with this status, sentence and further headers."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})


def error_type(status: int) -> str:
    """The `error_type` of a status, for programs."""
    return ERROR_TYPES.get(status, "error")


def error_body(status: int, sentence: str) -> bytes:
    """The body of an error response, as JSON."""
    return json.dumps({"error": sentence, "error_type": error_type(status)}).encode()
