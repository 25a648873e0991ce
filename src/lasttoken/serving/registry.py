"""The interfaces that the server speaks. To add one: its file in interfaces/, and its line here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lasttoken.serving.interfaces import about, classify, explain, huggingface, open_inference, page, tei, vllm
from lasttoken.serving.routes import Get, Post, Route

INTERFACES: tuple[tuple[Route, ...], ...] = (
    classify.ROUTES,
    explain.ROUTES,
    huggingface.ROUTES,
    tei.ROUTES,
    open_inference.ROUTES,
    vllm.ROUTES,
    about.ROUTES,
    page.ROUTES,
)


def all_routes() -> Iterator[Route]:
    """The routes of all interfaces, in the order in which they are tried."""
    for routes in INTERFACES:
        yield from routes


def open_routes() -> frozenset[tuple[str, str]]:
    """The pairs of method and path that are answered without the token."""
    paths = [route.path for route in all_routes() if isinstance(route, Get) and route.is_open]
    return frozenset((method, path) for method in ("GET", "HEAD") for path in paths)


def bodies() -> tuple[type[BaseModel], ...]:
    """The body of every route that has one, each once."""
    return tuple(dict.fromkeys(route.body for route in all_routes() if isinstance(route, Post)))


def body_schemas() -> dict[str, Any]:
    """The JSON schemas of all bodies, by the names under which OpenAPI's components hold them."""
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies()], ref_template="#/components/schemas/{model}"
    )
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions
