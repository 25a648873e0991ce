"""A route is put on the application with its method, its path parameters and its place in the OpenAPI document."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from lasttoken.serving.bodies import Body, Text
from lasttoken.serving.intake import Intake
from lasttoken.serving.limits import Limits
from lasttoken.serving.routes import Get, Post, Route, add_route
from lasttoken.serving.server import json_response


class EchoBody(Body):
    """A text that comes back."""

    text: Text


async def echo(server: Any, request: Request, body: EchoBody) -> Response:
    return json_response([request.path_params.get("name"), body.text])


async def ping(server: Any, request: Request) -> Response:
    return json_response([request.path_params.get("name")])


class IntakeOnly:
    """What a route uses of a server."""

    intake = Intake(Limits(), ThreadPoolExecutor(1))


def client_of(*routes: Route) -> TestClient:
    app = FastAPI()
    for route in routes:
        add_route(app, IntakeOnly(), route)  # type: ignore[arg-type]
    return TestClient(app)


@pytest.mark.parametrize(("path", "name"), [("/ping", None), ("/ping/{name}", "a")])
def test_a_route_without_a_body_is_a_get(path: str, name: str | None) -> None:
    client = client_of(Get(path, ping, "Ping"))
    assert client.get(path.format(name=name)).json() == [name]
    assert client.post(path.format(name=name)).status_code == 405


def test_a_route_with_a_body_is_a_post_and_its_body_is_checked() -> None:
    client = client_of(Post("/echo/{name}", EchoBody, echo, "Echo"))
    assert client.post("/echo/a", json={"text": "hi"}).json() == ["a", "hi"]
    assert client.get("/echo/a").status_code == 405


def test_openapi_shows_bodies_and_leaves_out_routes_without_a_summary() -> None:
    client = client_of(
        Get("/page", ping, None), Get("/ping/{name}", ping, "Ping"), Post("/echo", EchoBody, echo, "Echo")
    )
    paths = client.get("/openapi.json").json()["paths"]
    assert list(paths) == ["/ping/{name}", "/echo"]
    assert [parameter["name"] for parameter in paths["/ping/{name}"]["get"]["parameters"]] == ["name"]
    schema = paths["/echo"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/EchoBody"}
