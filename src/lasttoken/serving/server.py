"""What all routes share: the models by name, the checks of texts, the answers of the engine, and JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from lasttoken.classifier.predict import Answer
from lasttoken.serving.disconnect import while_connected
from lasttoken.serving.engine import Engine, ScoresByModel
from lasttoken.serving.explainer import Explainer
from lasttoken.serving.intake import Intake
from lasttoken.serving.limits import Limits
from lasttoken.serving.metrics import ServerMetrics
from lasttoken.serving.models import ServedModel
from lasttoken.serving.rejections import RejectedError

ALL_MODELS = "*"
FEW_VALUES = 2_000  # probabilities in an answer; longer answers are written in the pool
POOL_THREADS = 2


@dataclass
class Server:
    """The parts of one server; the routes are given it."""

    engine: Engine
    limits: Limits
    metrics: ServerMetrics
    token_needed: bool = False
    explainer: Explainer = field(default_factory=Explainer)

    def __post_init__(self) -> None:
        """Make the pool that reads long bodies and writes long answers."""
        self.pool = ThreadPoolExecutor(POOL_THREADS, "json")
        self.intake = Intake(self.limits, self.pool)
        self.created = int(time.time())

    def start(self) -> None:
        """Warm the models up, and begin to take requests."""
        self.engine.start()
        self.explainer.start()

    def close(self) -> None:
        """Answer the requests that wait, and end the threads."""
        self.explainer.close()
        self.engine.close()
        self.pool.shutdown()

    def model(self, name: str | None) -> ServedModel:
        """The model of this name; None stands for the only one.

        Raises:
            RejectedError: 404 if there is no such model; 422 if there are several and none is named.
        """
        models = self.engine.models
        if name is None and len(models) == 1:
            return next(iter(models.values()))
        known = ", ".join(models)
        if name is None:
            raise RejectedError(
                422, f'this server has several models; name one in "model": {known}, or {ALL_MODELS} for all'
            )
        if name not in models:
            raise RejectedError(404, f"there is no such model; this server has {known}")
        return models[name]

    def check(self, texts: Sequence[str]) -> None:
        """Reject too many texts, and texts that are too long.

        Raises:
            RejectedError: 413 or 422, with the limit.
        """
        if not texts:
            raise RejectedError(422, "there are no texts; send one or more")
        if len(texts) > self.limits.texts:
            raise RejectedError(413, f"there are {len(texts):,} texts; send at most {self.limits.texts:,} at a time")
        for index, text in enumerate(texts):
            if len(text) > self.limits.characters:
                raise RejectedError(
                    422, f"text {index} has {len(text):,} characters; at most {self.limits.characters:,} are taken"
                )

    async def scores(self, request: Request, texts: Sequence[str], names: Sequence[str]) -> ScoresByModel:
        """Some models' scores of the texts, from the engine.

        Raises:
            RejectedError: see `check`; or the client has disconnected.
            QueueFullError, DeadlineExceededError, ClosedError: see `Engine.classify`.
        """
        self.check(texts)
        request.state.facts["n_texts"] = len(texts)
        return await while_connected(request, self.engine.classify(texts, names, self.limits.deadline_s))

    async def classify(
        self,
        request: Request,
        texts: Sequence[str],
        model: ServedModel,
        content: Callable[[list[Answer]], Any],
        truncate: bool = True,
    ) -> Response:
        """One model's answers as JSON: `content` puts the rows into the interface's shape.

        Raises:
            RejectedError: 413 for a text that is too long, if `truncate` is False; see `scores` for the others.
        """
        scores = (await self.scores(request, texts, [model.name]))[model.name]
        if not truncate and scores.cut.any():
            max_length = model.predictor.classifier.config.max_length
            raise RejectedError(
                413,
                f"text {int(scores.cut.argmax())} of inputs has more than {max_length:,} tokens, and truncate is false",
            )
        n_values = len(texts) * len(model.predictor.labels)
        return await self.json(lambda: content(scores.answers(model.predictor.classifier.config)), n_values)

    async def json(self, content: Callable[[], Any], n_values: int) -> Response:
        """`content` as JSON; if it has many values, it is made and written away from the event loop."""

        def written() -> bytes:
            return to_json(content())

        if n_values <= FEW_VALUES:
            return Response(written(), media_type="application/json")
        loop = asyncio.get_running_loop()
        return Response(await loop.run_in_executor(self.pool, written), media_type="application/json")


def json_response(content: Any, status: int = 200) -> Response:
    """A short answer as JSON."""
    return Response(to_json(content), status, media_type="application/json")
