"""text-embeddings-inference: POST /predict with {"inputs": …, "raw_scores": …}.

Source: `PredictRequest` in its OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import Request, Response
from pydantic import ConfigDict, Field, StrictBool

from lasttoken.classifier.predict import Answer
from lasttoken.serving.bodies import Body, ModelName, Pairs, Text, Texts
from lasttoken.serving.interfaces.huggingface import row_content
from lasttoken.serving.rejections import RejectedError
from lasttoken.serving.routes import Post, Route
from lasttoken.serving.server import Server


class PredictBody(Body):
    """text-embeddings-inference: a text, or a list of lists; each inner list holds one text, or a pair of texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": "You won $1000!"}, {"inputs": [["one"], ["two"]]}]}
    )
    inputs: Text | Texts | Pairs
    model: ModelName = None
    raw_scores: Literal[False] | None = Field(None, description="Scores are calibrated: false, or left out.")
    truncate: StrictBool | None = Field(None, description="false: a text that would be truncated is rejected with 413.")
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        None, description="The side that the classifier truncates; another value is rejected."
    )


async def predict(server: Server, request: Request, body: PredictBody) -> Response:
    """Answer a text with a list of labels and scores, and a batch with a list of such lists."""
    model = server.model(body.model)
    side = "right" if model.predictor.classifier.config.truncate == "tail" else "left"
    if body.truncation_direction is not None and body.truncation_direction.lower() != side:
        raise RejectedError(422, f"truncation_direction must be {side}, as the classifier was trained")
    inputs = body.inputs
    is_batch = isinstance(inputs, list) and any(isinstance(item, list) for item in inputs)
    if isinstance(inputs, list) and not is_batch and len(inputs) != 1:
        raise RejectedError(
            422,
            f"inputs is a list of {len(inputs)} strings: "
            'send [["one"], ["two"]] for two texts, [["one", "two"]] for a pair',
        )
    texts = [_joined(item) for item in (inputs if is_batch else [inputs])]

    def content(rows: list[Answer]) -> Any:
        answers = [row_content(row) for row in rows]
        return answers if is_batch else answers[0]

    return await server.classify(request, texts, model, content, body.truncate is not False)


def _joined(item: str | Sequence[Any]) -> str:
    """A text, or a pair of texts joined as several text columns are in training."""
    parts = [item] if isinstance(item, str) else list(item)
    if not 1 <= len(parts) <= 2:
        raise RejectedError(422, "each of inputs must be a text, or a list of one text or of two that belong together")
    return "\n\n".join(parts)


ROUTES: tuple[Route, ...] = (Post("/predict", PredictBody, predict, "text-embeddings-inference's body"),)
