"""The command serve: classifiers over HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lasttoken.cli.flags import Device, Precision, Quiet
from lasttoken.cli.show import terminal
from lasttoken.serving.limits import Limits
from lasttoken.serving.options import TOKEN_VARIABLE, ServerOptions, read_token

USUAL, LIMITS = ServerOptions(), Limits()


def serve(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; each is served by its folder's name.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = USUAL.host,
    port: Annotated[int, typer.Option("--port", help="Port; 0: any free port.")] = USUAL.port,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help=f"File with the bearer token that clients must send; or set {TOKEN_VARIABLE}."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another host name that clients may use for the server; repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="URL",
            help="Origin of web pages that may call the server, such as https://example.org; repeatable. "
            "*: pages of every origin, which opens the server to the whole web.",
        ),
    ] = None,
    max_queue: Annotated[
        int, typer.Option("--max-queue", help="Maximum number of waiting texts; beyond it, requests get 429.")
    ] = USUAL.max_queue,
    max_texts: Annotated[int, typer.Option("--max-texts", help="Maximum texts per request.")] = LIMITS.texts,
    max_characters: Annotated[
        int, typer.Option("--max-characters", help="Maximum characters per text.")
    ] = LIMITS.characters,
    max_body: Annotated[int, typer.Option("--max-body", help="Maximum bytes of a request body.")] = LIMITS.body_bytes,
    max_connections: Annotated[
        int,
        typer.Option(
            "--max-connections", help="Maximum connections; a new one replaces the one that has been idle the longest."
        ),
    ] = LIMITS.connections,
    deadline: Annotated[
        float, typer.Option("--deadline", help="Seconds after which a request is abandoned.")
    ] = LIMITS.deadline_s,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", help="Tokens per batch; default: by the device.")
    ] = USUAL.batch_tokens,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
) -> None:
    """Serve classifiers over HTTP.

    There is a web page, JSON, and the request formats of other servers' clients.

    The models are loaded into memory when the server starts, so later changes to their files have no effect. To
    replace a model, train it into a new folder and restart the server, or start a second one beside it.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.serving.service import serve as serve_runs

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
        limits=replace(
            LIMITS,
            body_bytes=max_body,
            texts=max_texts,
            characters=max_characters,
            connections=max_connections,
            deadline_s=deadline,
        ),
    )
    tune_cpu()
    serve_runs(runs, options, terminal(quiet))
