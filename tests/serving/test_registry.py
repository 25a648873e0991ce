"""An interface is registered in one place: its routes, its bodies in OpenAPI, and what is open without the token."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import Request, Response
from fastapi.testclient import TestClient
from serving.conftest import TOKEN, served

from lasttoken.serving import interfaces, registry
from lasttoken.serving.bodies import Body, Text
from lasttoken.serving.routes import Get, Post
from lasttoken.serving.server import Server, json_response


class EchoBody(Body):
    """A text that comes back."""

    text: Text


async def echo(server: Server, request: Request, body: EchoBody) -> Response:
    return json_response({"text": body.text, "name": request.path_params["name"]})


async def ping(server: Server, request: Request) -> Response:
    return json_response("pong")


def test_a_new_interface_is_one_line_in_the_list(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    routes = (Post("/echo/{name}", EchoBody, echo, "Echo"), Get("/ping", ping, "Ping", is_open=True))
    monkeypatch.setattr(registry, "INTERFACES", (*registry.INTERFACES, routes))
    app, _ = served(runs[:1], token=TOKEN)
    token = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app) as client:
        assert client.get("/ping").json() == "pong"  # open
        assert client.post("/echo/x", json={"text": "a"}).status_code == 401
        assert client.post("/echo/x", json={"text": "a"}, headers=token).json() == {"text": "a", "name": "x"}
        assert client.post("/echo/x", json={"texts": "a"}, headers=token).status_code == 422
        document = client.get("/openapi.json", headers=token).json()
    assert document["paths"]["/echo/{name}"]["post"]["summary"] == "Echo"
    assert document["components"]["schemas"]["EchoBody"]["properties"].keys() == {"text"}


def test_every_file_of_interfaces_is_registered() -> None:
    files = {path.stem for path in Path(interfaces.__path__[0]).glob("*.py")} - {"__init__"}
    registered = {
        name for name, module in vars(registry).items() if getattr(module, "ROUTES", None) in registry.INTERFACES
    }
    assert registered == files


def test_no_two_routes_have_the_same_method_and_path() -> None:
    pairs = [(type(route), route.path) for route in registry.all_routes()]
    assert len(pairs) == len(set(pairs))


def test_openapi_has_a_schema_and_an_example_for_every_body(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for body in registry.bodies():
        assert schemas[body.__name__]["examples"]
    references = [
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for path in document["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    assert set(references) == {body.__name__ for body in registry.bodies()}
