"""Listening: uvicorn, with a socket of ours, so that an address that is taken is one sentence and port 0 is told."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvicorn

from lasttoken.core.errors import SettingsError
from lasttoken.serving.connections import connection_class
from lasttoken.serving.limits import Limits

BACKLOG = 2048
OTHER_FILES = 128  # that the process has open besides connections


def listen(
    app: Any, host: str, port: int, drain_s: int, say: Callable[[str], None], limits: Limits | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first, for `drain_s` seconds at most.

    Raises:
        SettingsError: an address that cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"cannot listen on {host} port {port} ({error}); give another --host or --port"
            ) from error
        bound = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=connection_class(_within_files(limits or Limits())),
            ws="none",
            log_config=None,
            log_level="error",  # malformed requests are the client's matter, and would fill the log
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=drain_s,
        )
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{bound}/  (page, docs at /docs; Ctrl-C ends it)")
        gc.collect()
        gc.freeze()  # libraries and models stay: to look through them again and again stops every request meanwhile
        uvicorn.Server(config).run(sockets=[listener])


def _within_files(limits: Limits) -> Limits:
    """Fewer connections where the process may not have so many files open (ulimit -n)."""
    if sys.platform == "win32":
        return limits
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, allowed - OTHER_FILES)))
