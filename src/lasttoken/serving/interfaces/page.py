"""The page for people, and the page of all interfaces: files of this package, which load nothing from other hosts."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import Request, Response

from lasttoken.serving.routes import Get, Route
from lasttoken.serving.server import Server

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}


@cache
def content_of(name: str) -> bytes:
    """The content of a file in page/."""
    return (files("lasttoken.serving") / "page" / name).read_bytes()


def _asset(path: str, name: str) -> Get:
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]

    async def asset(_: Server, __: Request) -> Response:
        return Response(content_of(name), media_type=media_type)

    return Get(path, asset, summary=None, is_open=True)


ROUTES: tuple[Route, ...] = (
    _asset("/", "index.html"),
    _asset("/docs", "docs.html"),
    _asset("/app.js", "app.js"),
    _asset("/docs.js", "docs.js"),
    _asset("/style.css", "style.css"),
)
