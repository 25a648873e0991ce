"""The Hugging Face text-classification task: POST / or /models/NAME with {"inputs": …, "parameters": {"top_k": …}}.

Source: huggingface.co/docs/inference-providers/tasks/text-classification.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request, Response
from pydantic import ConfigDict, Field, StrictInt, StrictStr

from lasttoken.classifier.predict import Answer
from lasttoken.serving.bodies import Body, ModelName, Text, Texts
from lasttoken.serving.rejections import RejectedError
from lasttoken.serving.routes import Post, Route
from lasttoken.serving.server import Server


class Parameters(Body):
    """The parameters of the Hugging Face task."""

    top_k: StrictInt | None = Field(None, ge=1)
    function_to_apply: StrictStr | None = None
    truncation: Literal[True] | None = Field(None, description="Texts are truncated as in the classifier's training.")


class TaskBody(Body):
    """The Hugging Face text-classification task."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": "You won $1000!"}]})
    inputs: Text | Texts
    model: ModelName = None
    parameters: Parameters | None = None
    options: dict[str, Any] | None = Field(
        None, description="Caching and waiting at the Hugging Face Hub; accepted, without effect here."
    )


async def root_task(server: Server, request: Request, body: TaskBody) -> Response:
    """Answer with the model that the body names."""
    return await _task(server, request, body, body.model)


async def model_task(server: Server, request: Request, body: TaskBody) -> Response:
    """Answer with the model that the address names."""
    name = request.path_params["name"]
    if body.model not in (None, name):
        raise RejectedError(422, "the field 'model' and the address name different models; leave one out")
    return await _task(server, request, body, name)


async def _task(server: Server, request: Request, body: TaskBody, name: str | None) -> Response:
    model = server.model(name)
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    function = model.predictor.classifier.config.task.probability_function
    parameters = body.parameters or Parameters(top_k=None, truncation=None)
    if parameters.function_to_apply not in (None, function):
        raise RejectedError(422, f"parameters.function_to_apply must be {function}, or be left out")
    return await server.classify(
        request, texts, model, lambda rows: [row_content(row, parameters.top_k) for row in rows]
    )


def row_content(row: Answer, top_k: int | None = None) -> list[dict[str, Any]]:
    """One text's answer: the labels with their scores, the likeliest first."""
    return [{"label": label, "score": score} for label, score in row.ranked[:top_k]]


ROUTES: tuple[Route, ...] = (
    Post("/", TaskBody, root_task, "The Hugging Face text-classification task"),
    Post("/models/{name}", TaskBody, model_task, "The Hugging Face task for one of several models"),
)
