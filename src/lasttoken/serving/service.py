"""A whole server from its parts: runs ─► models ─► engine ─► routes ─► guard ─► listening socket.

    serve([Path("runs/spam")], ServerOptions(port=8080))     # returns when the server is stopped

Nothing of the extra [serve] is imported before it is known to be installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lasttoken.core.machine import usable_cores
from lasttoken.core.progress import Reporter
from lasttoken.serving.options import ServerOptions, check_installed, parse_origin
from lasttoken.serving.sockets import DRAIN_S

if TYPE_CHECKING:
    from lasttoken.serving.guard import Guard
    from lasttoken.serving.models import Group

CHARACTERS_PER_TOKEN = 4  # of English, about; a batch is limited in tokens and measured in characters
CPU_THREADS = 2  # that compute, each with its share of the cores


@dataclass(frozen=True)
class Worker:
    """What a server should know that is one process of several."""

    threads: int  # cores for this process
    created: int  # the start of the whole in Unix seconds
    metrics_folder: Path  # of the counters of all


def serve(runs: Sequence[Path], options: ServerOptions, reporter: Reporter | None = None) -> None:
    """Serve classifiers over HTTP until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: invalid options, a missing package, an address that cannot be bound, or two runs of one name.
        RunError, BackboneError, DeviceError: a run that cannot be loaded.
    """
    options.check()
    check_installed()
    from lasttoken.serving.listen import listen

    reporter = reporter or Reporter()
    if options.workers > 1:
        from lasttoken.serving.workers.service import serve_with_workers

        serve_with_workers(runs, options, reporter.say)
        return
    app, groups = make_service(runs, options)
    notices = notices_of(options, groups)
    listen(app, options.host, options.port, DRAIN_S, reporter.say, options.limits, notices)


def make_service(
    runs: Sequence[Path], options: ServerOptions, worker: Worker | None = None
) -> tuple[Guard, list[Group]]:
    """The ASGI application with its models loaded, and the models in groups that share a trunk.

    `worker`: if this process is one of several, whose runs are copies that nobody writes to.

    Raises:
        SettingsError, RunError, BackboneError, DeviceError: see `load_models`.
    """
    from lasttoken.serving.app import make_app
    from lasttoken.serving.engine import Engine, EngineHooks
    from lasttoken.serving.guard import Guard
    from lasttoken.serving.metrics import ServerMetrics
    from lasttoken.serving.models import load_models
    from lasttoken.serving.server import Server

    groups = load_models(runs, options.device, options.precision, options.workers if worker else 1)
    device = groups[0].lead.device.torch_device.type
    metrics = ServerMetrics(worker.metrics_folder if worker else None)
    n_cores = worker.threads if worker else usable_cores()
    engine = Engine(
        groups,
        options.max_queue,
        (options.batch_tokens or groups[0].lead.device.token_budget) * CHARACTERS_PER_TOKEN,
        EngineHooks(metrics.on_batch, metrics.queue.set),
        CPU_THREADS if device == "cpu" and n_cores >= CPU_THREADS else 1,
    )
    server = Server(engine, options.limits, metrics, options.token is not None)
    if worker:
        server.created = worker.created
    app = make_app(server)
    origins = [parse_origin(url) for url in options.allow_origins]
    return Guard(app, options.limits, metrics, options.token, options.host_names, origins=origins), groups


def notices_of(options: ServerOptions, groups: Sequence[Group]) -> Iterator[str]:
    """What the operator should know: who may use the server, and what it serves."""
    if options.token is None and not options.is_local:
        yield f"anyone who can reach {options.host} may use this server; --token-file requires a token"
    if "*" in options.allow_origins and options.token is None:
        yield "pages of every origin may use this server; name origins, or require a token with --token-file"
    for group in groups:
        shared = " (one trunk)" if len(group.members) > 1 else ""
        names = ", ".join(served.name for served in group.members)
        yield f"serving {names}{shared} on {group.lead.device.torch_device.type}"
