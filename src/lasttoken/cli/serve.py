"""The command serve: classifiers over HTTP."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from lasttoken.cli.flags import Device, Precision, Quiet
from lasttoken.cli.show import terminal
from lasttoken.core.errors import SettingsError
from lasttoken.serving.limits import LOOPBACK, Limits

TOKEN_VARIABLE = "LASTTOKEN_TOKEN"
CHARACTERS_PER_TOKEN = 4  # of English, about: what a batch of tokens may hold in characters
TOKENS_OF_A_BATCH = {"cpu": 512, "cuda": 16_384, "mps": 4096}
DRAIN_S = 30
THREADS = 2  # that compute, on the CPU
DEFAULTS = Limits()
NEEDED = ("fastapi", "uvicorn", "httptools", "prometheus_client")


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on the program."""
    app.command()(serve)


def serve(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; each is served by its folder's name.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0: any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help=f"File with the bearer token that clients must show; or {TOKEN_VARIABLE}."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another name that clients may call the server by.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="URL",
            help="Origin of web pages that may call the server, such as https://example.org; repeatable. "
            "*: pages of every origin, which is open to the whole web.",
        ),
    ] = None,
    max_queue: Annotated[int, typer.Option("--max-queue", help="Texts that may wait; more are answered 429.")] = 2048,
    max_texts: Annotated[int, typer.Option("--max-texts", help="Texts in a request.")] = DEFAULTS.texts,
    max_characters: Annotated[
        int, typer.Option("--max-characters", help="Characters of a text.")
    ] = DEFAULTS.characters,
    max_body: Annotated[int, typer.Option("--max-body", help="Bytes of a request's body.")] = DEFAULTS.body_bytes,
    max_connections: Annotated[
        int, typer.Option("--max-connections", help="Connections; a new one takes the place of the longest silent one.")
    ] = DEFAULTS.connections,
    deadline: Annotated[
        float, typer.Option("--deadline", help="Seconds until a request is given up.")
    ] = DEFAULTS.deadline_s,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", help="Tokens computed together; default: by the device.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
) -> None:
    """Serve classifiers over HTTP: a page, JSON, and the bodies that other servers' clients send.

    The models are read once, when the server starts, and served from its own memory: files that change later change
    no answer. To replace a model, train it into a new folder and restart the server, or start a second one beside it.
    """
    numbers = {"--max-queue": max_queue, "--max-texts": max_texts, "--max-characters": max_characters}
    numbers |= {"--max-body": max_body, "--max-connections": max_connections, "--batch-tokens": batch_tokens or 1}
    for flag, value in numbers.items():
        if value < 1:
            raise SettingsError(f"{flag} is {value}; it must be at least 1")
    if not 0 <= port < 65536:
        raise SettingsError(f"--port is {port}; it must be between 0 and 65535")
    if not 0 < deadline < float("inf"):
        raise SettingsError(f"--deadline is {deadline}; it must be above 0")
    origins = [_origin(url) for url in allow_origin or []]
    token = _token(token_file)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"serve needs {missing[0]}, of the extra [serve]; pip install '.[serve]' in lasttoken's folder"
        )
    from lasttoken.core.process import tune_cpu
    from lasttoken.serving.app import make_app
    from lasttoken.serving.engine import Engine, EngineHooks
    from lasttoken.serving.guard import Guard
    from lasttoken.serving.listen import listen
    from lasttoken.serving.metrics import ServerMetrics
    from lasttoken.serving.models import load_models
    from lasttoken.serving.server import Server

    reporter = terminal(quiet)
    tune_cpu()
    groups = load_models(runs, device, precision)
    kind = groups[0].lead.device.torch_device.type
    metrics = ServerMetrics()
    engine = Engine(
        groups,
        max_queue,
        (batch_tokens or TOKENS_OF_A_BATCH[kind]) * CHARACTERS_PER_TOKEN,
        EngineHooks(metrics.on_batch, metrics.queue.set),
        THREADS if kind == "cpu" and (os.cpu_count() or 1) >= THREADS else 1,
    )
    limits = replace(
        DEFAULTS,
        body_bytes=max_body,
        texts=max_texts,
        characters=max_characters,
        connections=max_connections,
        deadline_s=deadline,
    )
    hosts = [*LOOPBACK, *(allow_host or [])] if _is_loopback(host) or allow_host else None
    server = Server(engine, limits, metrics, token is not None)
    app = Guard(make_app(server), limits, metrics, token, hosts, origins=origins)
    if token is None and not _is_loopback(host):
        reporter.say(f"anyone who reaches {host} may use this server; --token-file asks for a token")
    if "*" in origins and token is None:
        reporter.say("pages of every origin may use this server; name origins, or ask for a token with --token-file")
    for group in groups:
        shared = " (one trunk)" if len(group.members) > 1 else ""
        reporter.say(f"serving {', '.join(one.name for one in group.members)}{shared} on {kind}")
    listen(app, host, port, DRAIN_S, reporter.say, limits)


def _is_loopback(host: str) -> bool:
    return host in [name.strip("[]") for name in LOOPBACK]


def _origin(url: str) -> str:
    """An origin as browsers send it: scheme and host, in lower case, and the port where it is not the scheme's own.

    Raises:
        SettingsError: something else than an origin.
    """
    if url == "*":
        return url
    try:
        parts = urlsplit(url)
        port, own = parts.port, {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        own = None
    if own is None or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in url:
        raise SettingsError(f"--allow-origin is {url!r}; give scheme and host alone, such as https://example.org")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, own) else f":{port}")


def _token(token_file: Path | None) -> str | None:
    """The token, from a file or the environment: not from a flag, which every user of the machine can read.

    Raises:
        SettingsError: a file that cannot be read, or a token that is too short to protect anything.
    """
    try:
        found = token_file.read_text("utf-8").strip() if token_file else os.environ.get(TOKEN_VARIABLE, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--token-file {token_file} cannot be read ({error})") from error
    if not found and token_file is None:
        return None
    if len(found) < 16 or not found.isascii() or not found.isprintable() or " " in found:
        where = f"--token-file {token_file}" if token_file else TOKEN_VARIABLE
        raise SettingsError(
            f"{where} holds no token of 16 signs or more; make one with python -c 'import secrets; "
            "print(secrets.token_urlsafe())'"
        )
    return found
