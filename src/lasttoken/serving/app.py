"""The application: the routes of all interfaces, errors as JSON, and the models warm before the first request.

The models run in the engine's threads and explanations in one of their own; handlers run on the event loop and wait.
Every error is one sentence of JSON: {"error": …, "error_type": …}.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from lasttoken.serving.pending import ClosedError, DeadlineExceededError, QueueFullError
from lasttoken.serving.registry import all_routes, body_schemas
from lasttoken.serving.rejections import RejectedError, error_body
from lasttoken.serving.routes import add_route
from lasttoken.serving.server import Server

NO_TELEMETRY: Any = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)


def make_app(server: Server) -> FastAPI:
    """The application without the checks that `Guard` puts in front of it."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(server.start)  # the models are warm before the first request is taken
        yield
        await asyncio.to_thread(server.close)

    app = FastAPI(
        title="lasttoken",
        version=version("lasttoken"),
        description="Text classifiers: label, score and probabilities of texts.",
        docs_url=None,  # FastAPI's page loads scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,  # otherwise OTEL_* and FASTAPI_OTEL_* variables would make it send requests elsewhere
    )
    _add_errors(app)
    for route in all_routes():
        add_route(app, server, route)
    _describe_bodies(app)
    return app


def _describe_bodies(app: FastAPI) -> None:
    """Add the schemas of the bodies to the OpenAPI document; FastAPI does not know them (see `routes.py`)."""
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()
        document.setdefault("components", {}).setdefault("schemas", {}).update(body_schemas())
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _reject(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return Response(error_body(status, sentence), status, headers, "application/json")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RejectedError)
    async def rejected(_: Request, error: RejectedError) -> Response:
        return _reject(error.status, error.sentence, error.headers)

    @app.exception_handler(QueueFullError)
    async def queue_full(_: Request, error: QueueFullError) -> Response:
        return _reject(429, str(error), {"retry-after": str(error.retry_after_s)})

    @app.exception_handler(DeadlineExceededError)
    async def deadline_exceeded(_: Request, __: DeadlineExceededError) -> Response:
        return _reject(504, "the deadline passed before the answer was computed; send fewer texts, or try again later")

    @app.exception_handler(ClosedError)
    async def closed(_: Request, __: ClosedError) -> Response:
        return _reject(503, "the server is shutting down", {"retry-after": "5"})

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return _reject(error.status_code, str(error.detail).lower(), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return _reject(500, "internal error; the server's log names its type")
