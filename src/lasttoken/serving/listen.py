"""Listen with uvicorn on a socket of our own, and report the address once it is bound."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import uvicorn

from lasttoken.serving.connections import Connection, connection_class
from lasttoken.serving.limits import Limits
from lasttoken.serving.sockets import BACKLOG, address_line, bind

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
    with bind(host, port) as listener:
        config = uvicorn_config(app, connection_class(within_file_limit(limits or Limits())), drain_s)
        for notice in notices:
            say(notice)
        say(address_line(host, listener))
        run_frozen(uvicorn.Server(config), listener)


def run_frozen(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run a server whose models are loaded."""
    gc.collect()
    gc.freeze()  # libraries and models live on; scanning them in every collection would delay requests
    server.run(sockets=[listener])


def uvicorn_config(app: Any, protocol: type[Connection], drain_s: int) -> uvicorn.Config:
    """uvicorn's settings; `protocol`: the class of its connections."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        log_level="error",  # no warnings: clients could fill the log with malformed requests
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=drain_s,
    )


def within_file_limit(limits: Limits) -> Limits:
    """Limit the connections to the files that the process may open (ulimit -n)."""
    if sys.platform == "win32":
        return limits
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, allowed - OTHER_FILES)))
