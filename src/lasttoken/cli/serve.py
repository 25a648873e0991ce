"""The command serve: classifiers over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lasttoken.cli.flags import Device, Precision, Quiet
from lasttoken.cli.show import terminal
from lasttoken.serving.limits import Limits
from lasttoken.serving.options import TOKEN_VARIABLE, ServerOptions, read_token

USUAL, LIMITS = ServerOptions(), Limits()

Runs = Annotated[list[Path], typer.Argument(help="Run directories; each is served by its folder's name.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", help="Port; 0: any free port.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help=f"File with the bearer token that clients must send; or set {TOKEN_VARIABLE}."),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="Another host name that clients may use for the server; repeatable."),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-origin",
        metavar="URL",
        help="Origin of web pages that may call the server, such as https://example.org; repeatable. "
        "*: pages of every origin, which opens the server to the whole web.",
    ),
]
MaxQueue = Annotated[
    int, typer.Option("--max-queue", help="Maximum number of waiting texts; beyond it, requests get 429.")
]
MaxTexts = Annotated[int, typer.Option("--max-texts", help="Maximum texts per request.")]
MaxCharacters = Annotated[int, typer.Option("--max-characters", help="Maximum characters per text.")]
MaxBody = Annotated[int, typer.Option("--max-body", help="Maximum bytes of a request body.")]
MaxConnections = Annotated[
    int,
    typer.Option(
        "--max-connections", help="Maximum connections; a new one replaces the one that has been idle the longest."
    ),
]
Deadline = Annotated[float, typer.Option("--deadline", help="Seconds after which a request is abandoned.")]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        help="Processes that share the port, the cores and the pages of the weights; SIGHUP replaces them one by one.",
    ),
]
BatchTokens = Annotated[int | None, typer.Option("--batch-tokens", help="Tokens per batch; default: by the device.")]


def serve(
    runs: Runs,
    host: Host = USUAL.host,
    port: Port = USUAL.port,
    token_file: TokenFile = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    max_queue: MaxQueue = USUAL.max_queue,
    max_texts: MaxTexts = LIMITS.texts,
    max_characters: MaxCharacters = LIMITS.characters,
    max_body: MaxBody = LIMITS.body_bytes,
    max_connections: MaxConnections = LIMITS.connections,
    deadline: Deadline = LIMITS.deadline_s,
    batch_tokens: BatchTokens = USUAL.batch_tokens,
    workers: Workers = USUAL.workers,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
) -> None:
    """Serve classifiers over HTTP.

    There is a web page, JSON, and the request formats of other servers' clients.

    The models are loaded into memory when the server starts, so later changes to their files have no effect. To
    replace a model, train it into a new folder and restart the server, or start a second one beside it.
    """
    from lasttoken.serving.service import serve as serve_runs

    limits = Limits(max_body, max_texts, max_characters, connections=max_connections, deadline_s=deadline)
    options = ServerOptions(
        host=host,
        port=port,
        token=read_token(token_file),
        allow_hosts=tuple(allow_host or ()),
        allow_origins=tuple(allow_origin or ()),
        max_queue=max_queue,
        batch_tokens=batch_tokens,
        device=device,
        precision=precision,
        workers=workers,
        limits=limits,
    )
    if workers == 1:  # with several the workers compute, and this process does not import torch
        from lasttoken.core.process import tune_cpu

        tune_cpu()
    serve_runs(runs, options, terminal(quiet))
