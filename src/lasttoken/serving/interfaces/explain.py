"""POST /explain: which words moved the decision for one text."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import ConfigDict, Field, StrictStr

from lasttoken.classifier.explain import Explanation, explain
from lasttoken.classifier.predict import PROBABILITY_DECIMALS
from lasttoken.serving.bodies import Body, ModelName, Text
from lasttoken.serving.disconnect import while_connected
from lasttoken.serving.explainer import CheckWanted
from lasttoken.serving.models import ServedModel
from lasttoken.serving.rejections import RejectedError
from lasttoken.serving.routes import Post, Route
from lasttoken.serving.server import Server


class ExplainBody(Body):
    """The text whose decision is explained."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "You won $1000!"}]})
    text: Text
    model: ModelName = None
    label: StrictStr | None = Field(None, description="The label to explain; default: the most probable.")


async def explain_text(server: Server, request: Request, body: ExplainBody) -> Response:
    """Explain one decision, in the explanations' thread."""
    model, text, label = server.model(body.model), body.text, body.label
    server.check([text])
    max_characters = server.limits.explained_characters
    if len(text) > max_characters:
        raise RejectedError(422, f"the text has {len(text):,} characters; at most {max_characters:,} are explained")
    if label is not None and label not in model.predictor.labels:
        raise RejectedError(422, "the classifier has no such label; /info lists them")

    def work(check_wanted: CheckWanted) -> Explanation:
        return explain(model.predictor, text, label=label, between=check_wanted)

    explanation = await while_connected(request, server.explainer.run(work, server.limits.deadline_s))
    return await server.json(lambda: content(model, explanation), len(explanation.words))


def content(model: ServedModel, explanation: Explanation) -> dict[str, Any]:
    """The explanation as JSON: pairs of word and contribution, and the part that no word accounts for (`gap`)."""
    return {
        "model": model.name,
        "label": explanation.label,
        "score": round(explanation.score, PROBABILITY_DECIMALS),
        "method": explanation.method,
        "words": [[word.text, round(word.value, PROBABILITY_DECIMALS)] for word in explanation.words],
        "gap": round(explanation.gap, PROBABILITY_DECIMALS),
    }


ROUTES: tuple[Route, ...] = (Post("/explain", ExplainBody, explain_text, "Explain which words moved the decision"),)
