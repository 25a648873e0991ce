"""Listen with uvicorn on a socket of our own: an address in use is one sentence, and port 0 is reported as chosen."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import uvicorn

from lasttoken.core.errors import SettingsError
from lasttoken.serving.connections import connection_class
from lasttoken.serving.limits import Limits

BACKLOG = 2048
OTHER_FILES = 128  # open files of the process besides connections


def listen(
    app: Any,
    host: str,
    port: int,
    drain_s: int,
    say: Callable[[str], None],
    limits: Limits | None = None,
    notices: Iterable[str] = (),
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer the requests that were received, for at most `drain_s` seconds.

    `say` gets the notices and the address once the socket is bound.

    Raises:
        SettingsError: it is not possible to listen on this address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise SettingsError(
                f"cannot listen on {host} port {port} ({reason}); give another --host or --port"
            ) from error
        bound_port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=connection_class(_within_file_limit(limits or Limits())),
            ws="none",
            log_config=None,
            log_level="error",  # no warnings: clients could fill the log with malformed requests
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=drain_s,
        )
        address = f"[{host}]" if ":" in host else host
        for notice in notices:
            say(notice)
        say(f"http://{address}:{bound_port}/  (page, docs at /docs; stop with Ctrl-C)")
        gc.collect()
        gc.freeze()  # libraries and models live on; scanning them in every collection would delay requests
        uvicorn.Server(config).run(sockets=[listener])


def _within_file_limit(limits: Limits) -> Limits:
    """Limit the connections to the files that the process may open (ulimit -n)."""
    if sys.platform == "win32":
        return limits
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, allowed - OTHER_FILES)))
