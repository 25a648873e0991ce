"""vLLM's interface: its body of POST /classify, and the list of models as vLLM and OpenAI return it.

Source: vLLM's `ClassificationRequest` and `ClassificationResponse`. The path /classify is shared with our own
interface, so its route stands in classify.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal
from uuid import uuid4

from fastapi import Request, Response
from pydantic import Field, StrictBool, StrictInt, StrictStr

from lasttoken.classifier.predict import Answer
from lasttoken.serving.bodies import Body, Text, Texts
from lasttoken.serving.models import ServedModel
from lasttoken.serving.routes import Get, Route
from lasttoken.serving.server import Server, json_response


class VllmFields(Body):
    """The fields of vLLM's body, except `model`, which our own has too."""

    input: Text | Texts | None = Field(None, description="vLLM's name for the texts.")
    # accepted, because they do not change the answer here
    user: StrictStr | None = None
    priority: StrictInt | None = None
    cache_salt: StrictStr | None = None
    add_special_tokens: StrictBool | None = Field(None, description="No effect: GPT-2's tokenizer adds none.")
    # accepted with the values that are honoured
    request_id: StrictStr | None = Field(None, max_length=200, description="Returned in the answer's id.")
    activation: Literal[True] | None = Field(None, description="Scores are probabilities: true, or left out.")
    use_activation: Literal[True] | None = Field(None, description="The same as activation.")
    softmax: Literal[True] | None = Field(None, description="The same as activation.")
    truncate_prompt_tokens: Literal[-1] | None = Field(
        None, description="-1: texts are truncated as in the classifier's training."
    )


async def classify(server: Server, request: Request, body: VllmFields, model: ServedModel) -> Response:
    """Answer vLLM's body."""
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    return await server.classify(request, texts, model, lambda rows: response(model, rows, body.request_id))


def response(model: ServedModel, rows: Sequence[Answer], request_id: str | None = None) -> dict[str, Any]:
    """`ClassificationResponse`; `label` is null if the classifier abstains, `probs` are ordered by label id."""
    labels = model.predictor.labels
    n_tokens = sum(row.n_tokens for row in rows)
    return {
        "id": f"classify-{request_id or uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model.name,
        "data": [
            {"index": index, "label": row.label, "probs": row.by_label(labels), "num_classes": len(labels)}
            for index, row in enumerate(rows)
        ],
        "usage": {
            "prompt_tokens": n_tokens,
            "total_tokens": n_tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


async def models(server: Server, _: Request) -> Response:
    """List the models, as `GET /v1/models` of OpenAI does."""
    cards = [model_card(served, server.created) for served in server.engine.models.values()]
    return json_response({"object": "list", "data": cards})


async def model(server: Server, request: Request) -> Response:
    """Describe one model."""
    return json_response(model_card(server.model(request.path_params["name"]), server.created))


def model_card(served: ServedModel, created: int) -> dict[str, Any]:
    """OpenAI's fields of a model, with vLLM's `max_model_len`; `created`: the server's start in Unix seconds."""
    return {
        "id": served.name,
        "object": "model",
        "created": created,
        "owned_by": "lasttoken",
        "root": served.name,
        "parent": None,
        "max_model_len": served.predictor.classifier.config.max_length,
        "permission": [],
    }


ROUTES: tuple[Route, ...] = (
    Get("/v1/models", models, "The models, as OpenAI's and vLLM's clients ask for them"),
    Get("/v1/models/{name}", model, "One of the models"),
)
