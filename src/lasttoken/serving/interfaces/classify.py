"""Our own interface: POST /classify with {"text": …} or {"texts": […]}; vLLM's body shares the path."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import ConfigDict, Field, StrictInt

from lasttoken.classifier.predict import Answer
from lasttoken.evaluation.tasks.task import Task
from lasttoken.serving.bodies import Body, ModelName, Text, Texts
from lasttoken.serving.interfaces import vllm
from lasttoken.serving.rejections import RejectedError
from lasttoken.serving.routes import Post, Route
from lasttoken.serving.server import ALL_MODELS, Server


class OwnFields(Body):
    """The fields of our own interface."""

    text: Text | None = Field(None, description="One text.")
    texts: Texts | None = Field(None, description="Several texts.")
    model: ModelName = None
    top_k: StrictInt | None = Field(None, ge=1, description="The number of probabilities to return; default: all.")


class ClassifyBody(vllm.VllmFields, OwnFields):
    """One text or several, for one model, or for all models with "*". With `input` it is vLLM's body."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "You won $1000!"}, {"texts": ["You won $1000!", "see you at 6"], "top_k": 2}]
        },
    )

    @property
    def vllm_fields(self) -> list[str]:
        """The fields of this body that only vLLM's clients send."""
        known = OwnFields.model_fields.keys() | {"input"}
        return sorted(name for name in self.model_fields_set - known if getattr(self, name) is not None)


async def classify(server: Server, request: Request, body: ClassifyBody) -> Response:
    """Answer our own body or vLLM's."""
    texts_fields = [name for name in ("text", "texts", "input") if getattr(body, name) is not None]
    if len(texts_fields) != 1:
        raise RejectedError(422, 'give one of "text", "texts" and "input"')
    if texts_fields == ["input"]:
        if body.top_k is not None:
            raise RejectedError(422, "top_k goes with text or texts; input is answered with all probabilities")
        return await vllm.classify(server, request, body, server.model(body.model))
    if body.vllm_fields:
        raise RejectedError(422, f"the field {body.vllm_fields[0]!r} goes with input; leave it out")
    return await _own(server, request, body)


async def _own(server: Server, request: Request, body: ClassifyBody) -> Response:
    texts = [body.text] if body.text is not None else body.texts or []
    if not texts:  # checked before the name of the model, which may be missing too
        raise RejectedError(422, '"texts" is empty; send one or more texts')
    models = list(server.engine.models.values()) if body.model == ALL_MODELS else [server.model(body.model)]
    scores = await server.scores(request, texts, [model.name for model in models])

    def content() -> dict[str, Any]:
        answers = {}
        for model in models:
            config = model.predictor.classifier.config
            rows = [answer_content(row, body.top_k, config.task) for row in scores[model.name].answers(config)]
            answers[model.name] = {"model": model.name} | (rows[0] if body.text is not None else {"predictions": rows})
        return {"models": answers} if body.model == ALL_MODELS else answers[models[0].name]

    n_values = len(texts) * sum(len(model.predictor.labels) for model in models)
    return await server.json(content, n_values)


def answer_content(row: Answer, top_k: int | None, task: Task) -> dict[str, Any]:
    """One text's answer; a multi-label classifier's has the list `labels` too."""
    return {
        "label": row.label,
        **task.labels_field(row.labels),
        "score": row.score,
        "probs": dict(row.ranked[:top_k]),
        "n_tokens": row.n_tokens,
        "truncated": row.truncated,
    }


ROUTES: tuple[Route, ...] = (Post("/classify", ClassifyBody, classify, "Classify texts; also vLLM's body"),)
