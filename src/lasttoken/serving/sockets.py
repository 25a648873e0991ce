"""The listening socket: an address in use is one sentence, and port 0 is reported as chosen."""

from __future__ import annotations

import socket

from lasttoken.core.errors import SettingsError

BACKLOG = 2048
DRAIN_S = 30  # for requests under way when the server is stopped


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound to the address and does not listen yet.

    Raises:
        SettingsError: it is not possible to listen on this address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise _rejected(host, port, error) from error
    return bound


def start_listening(bound: socket.socket, host: str) -> None:
    """Listen on a bound socket.

    Raises:
        SettingsError: another process has begun to listen on this address meanwhile.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise _rejected(host, bound.getsockname()[1], error) from error


def _rejected(host: str, port: int, error: OSError | OverflowError) -> SettingsError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return SettingsError(f"cannot listen on {host} port {port} ({reason}); give another --host or --port")


def address_line(host: str, bound: socket.socket) -> str:
    """Where the server is, as the operator reads it."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound.getsockname()[1]}/  (page, docs at /docs; stop with Ctrl-C)"
