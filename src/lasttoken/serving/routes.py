"""What an interface registers: its routes, each with its path, its handler and its place in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from lasttoken.serving.server import Server

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class Get:
    """A route without a body."""

    path: str
    handler: Callable[[Server, Request], Awaitable[Response]]
    summary: str | None  # in the OpenAPI document; None leaves the route out of it
    is_open: bool = False  # whether it is answered without the token


@dataclass(frozen=True)
class Post(Generic[B]):
    """A route with a body, which is read within the server's limits and checked before the handler is called."""

    path: str
    body: type[B]
    handler: Callable[[Server, Request, B], Awaitable[Response]]
    summary: str


Route = Get | Post[Any]


def add_route(app: FastAPI, server: Server, route: Route) -> None:
    """Put a route on the application; a handler reads path parameters from `request.path_params`."""

    async def answer(request: Request) -> Response:
        if isinstance(route, Get):
            return await route.handler(server, request)
        async with server.intake.body(request, route.body) as body:
            return await route.handler(server, request, body)

    async def answer_by_name(name: str, request: Request) -> Response:  # noqa: ARG001 - OpenAPI is made of the signature
        return await answer(request)

    app.add_api_route(
        route.path,
        answer_by_name if "{name}" in route.path else answer,
        methods=["GET" if isinstance(route, Get) else "POST"],
        name=route.handler.__name__,
        summary=route.summary,
        include_in_schema=route.summary is not None,
        openapi_extra=_body_schema(route.body) if isinstance(route, Post) else None,
    )


def _body_schema(body: type[BaseModel]) -> dict[str, Any]:
    """A route's body in OpenAPI; FastAPI does not see it, because `Intake` reads it."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
