"""The Open Inference Protocol, version 2 (KServe): one input tensor of texts, output tensors of labels and scores.

Source: github.com/kserve/open-inference-protocol, inference_rest.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import ConfigDict, Field, StrictInt, StrictStr

from lasttoken.classifier.predict import Answer
from lasttoken.serving.bodies import Body, Pairs, Texts
from lasttoken.serving.interfaces.about import ready
from lasttoken.serving.models import ServedModel
from lasttoken.serving.rejections import RejectedError
from lasttoken.serving.routes import Get, Post, Route
from lasttoken.serving.server import Server, json_response

OUTPUTS = {"label": "BYTES", "score": "FP64", "probs": "FP64", "truncated": "BOOL"}


class InferParameters(Body):
    """Parameters of the Open Inference Protocol, with the values that are honoured."""

    content_type: Literal["str"] | None = Field(None, description="MLServer's name for strings.")
    binary_data: Literal[False] | None = None
    binary_data_output: Literal[False] | None = None
    priority: StrictInt | None = None


class InferTensor(Body):
    """A tensor of strings."""

    name: StrictStr
    shape: Annotated[list[StrictInt], Field(fail_fast=True)]
    datatype: Literal["BYTES"]
    data: Texts | Pairs = Field(description="Texts, or lists of one text.")
    parameters: InferParameters | None = None


class InferOutput(Body):
    """An output tensor that the client asks for."""

    name: StrictStr
    parameters: InferParameters | None = None


class InferBody(Body):
    """The Open Inference Protocol, version 2: one input `text` of datatype BYTES and shape [N] or [N, 1]."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["You won $1000!"]}]}]
        },
    )
    id: StrictStr | None = None
    inputs: Annotated[list[InferTensor], Field(fail_fast=True)]
    outputs: Annotated[list[InferOutput], Field(fail_fast=True)] | None = None
    parameters: InferParameters | None = None


async def metadata(_: Server, __: Request) -> Response:
    """Describe the server."""
    return json_response({"name": "lasttoken", "version": version("lasttoken"), "extensions": []})


async def live(_: Server, __: Request) -> Response:
    """Say that the process answers."""
    return json_response({"live": True})


async def model_ready(server: Server, request: Request) -> Response:
    """Say whether a model takes requests."""
    model = server.model(request.path_params["name"])
    return json_response({"name": model.name, "ready": server.engine.is_ready})


async def model_metadata(server: Server, request: Request) -> Response:
    """Describe a model's input and outputs; -1 is the number of texts."""
    model = server.model(request.path_params["name"])
    shapes = {"probs": [-1, len(model.predictor.labels)]}
    return json_response(
        {
            "name": model.name,
            "versions": ["1"],
            "platform": "lasttoken",
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": output, "datatype": datatype, "shape": shapes.get(output, [-1])}
                for output, datatype in OUTPUTS.items()
            ],
        }
    )


async def infer(server: Server, request: Request, body: InferBody) -> Response:
    """Classify the texts of the input tensor."""
    model = server.model(request.path_params["name"])
    if len(body.inputs) != 1:
        raise RejectedError(422, f"there are {len(body.inputs)} inputs; send one, of datatype BYTES")
    tensor = body.inputs[0]
    texts = [text for item in tensor.data for text in (item if isinstance(item, list) else [item])]
    if tensor.shape not in ([len(texts)], [len(texts), 1]):
        raise RejectedError(422, f"the input's shape must be [{len(texts)}], the number of its texts")
    asked = None if body.outputs is None else [output.name for output in body.outputs]
    if unknown := [output for output in asked or [] if output not in OUTPUTS]:
        raise RejectedError(422, f"there is no output {unknown[0][:60]!r}; use {', '.join(OUTPUTS)}")
    return await server.classify(request, texts, model, lambda rows: infer_response(model, rows, body.id, asked))


def infer_response(
    model: ServedModel, rows: Sequence[Answer], request_id: str | None, asked: Sequence[str] | None
) -> dict[str, Any]:
    """The output tensors label, score, truncated [N] and probs [N, K], by label id; `asked` None: all of them."""
    labels, n = model.predictor.labels, len(rows)
    data: dict[str, list[Any]] = {
        "label": [row.label or "" for row in rows],
        "score": [row.score for row in rows],
        "probs": [p for row in rows for p in row.by_label(labels)],
        "truncated": [row.truncated for row in rows],
    }
    outputs = [
        {"name": name, "datatype": datatype, "shape": [n, len(labels)] if name == "probs" else [n], "data": data[name]}
        for name, datatype in OUTPUTS.items()
        if asked is None or name in asked
    ]
    response = {"model_name": model.name, "model_version": "1", "outputs": outputs}
    return response | ({"id": request_id} if request_id is not None else {})


ROUTES: tuple[Route, ...] = (
    Get("/v2", metadata, "Name and version of the server"),
    Get("/v2/health/live", live, "Whether the server is alive", is_open=True),
    Get("/v2/health/ready", ready, "Whether the models are warm and requests are taken", is_open=True),
    Get("/v2/models/{name}/ready", model_ready, "Whether a model takes requests"),
    Get("/v2/models/{name}", model_metadata, "A model's input and outputs"),
    Post("/v2/models/{name}/infer", InferBody, infer, "Classify texts"),
)
