"""The server's routes: what comes in is checked, handed to the engine, and told in the client's own shape.

The models run in the engine's thread; everything here is on the event loop and waits. An error is one sentence of JSON:
{"error": …, "error_type": …}.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lasttoken.explain import explain
from lasttoken.serving import formats
from lasttoken.serving.bodies import ClassifyBody, ExplainBody, InferBody, Parameters, PredictBody, TaskBody
from lasttoken.serving.engine import Answer, BusyError, ClosedError, Engine, LateError
from lasttoken.serving.guard import Limits, kind_of
from lasttoken.serving.metrics import CONTENT_TYPE, ServerMetrics
from lasttoken.serving.models import Served

EVERY = "*"  # all models
WATCHED_AFTER_S = 0.25  # a quicker answer needs nobody to look whether the client is still there
MAX_EXPLAINED = 5_000  # characters; an explanation takes hundreds of times as long as an answer
FILES = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}


class RefusedError(Exception):
    """A request that is not answered: the status and the sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Server:
    """What the routes share."""

    engine: Engine
    limits: Limits
    metrics: ServerMetrics
    token_needed: bool = False

    def model(self, name: str | None) -> Served:
        """A model by its name; without one, the only one there is.

        Raises:
            RefusedError: no such model, or several.
        """
        models = self.engine.models
        if name is None and len(models) == 1:
            return next(iter(models.values()))
        known = ", ".join(models)
        if name is None:
            raise RefusedError(422, f'this server has several models; name one in "model": {known}, or {EVERY} for all')
        if name not in models:
            raise RefusedError(404, f"there is no such model; this server has {known}")
        return models[name]

    def check(self, texts: Sequence[str]) -> None:
        """Refuse too many texts, and texts that are too long or no text.

        Raises:
            RefusedError: which, and what is allowed.
        """
        if not texts:
            raise RefusedError(422, "there are no texts; send one or more")
        if len(texts) > self.limits.texts:
            raise RefusedError(413, f"there are {len(texts):,} texts; send at most {self.limits.texts:,} at a time")
        for at, text in enumerate(texts):
            if len(text) > self.limits.characters:
                sentence = f"text {at} has {len(text):,} characters; at most {self.limits.characters:,} are taken"
                raise RefusedError(422, sentence)
            if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise RefusedError(422, f"text {at} has half a surrogate pair, which is no character")

    async def rows(self, request: Request, texts: Sequence[str], served: Served) -> list[formats.Row]:
        """One model's answers to some texts."""
        return formats.rows_of(served, (await self.answers(request, texts, [served.name]))[served.name])

    async def answers(self, request: Request, texts: Sequence[str], names: Sequence[str]) -> dict[str, Answer]:
        """The models' answers, as they come from the engine."""
        self.check(texts)
        request.state.facts["n_texts"] = len(texts)
        found: dict[str, Answer] = await _while_connected(
            request, self.engine.classify(texts, names, self.limits.deadline_s)
        )
        return found


async def _while_connected(request: Request, work: Awaitable[Any]) -> Any:
    """Do the work, unless the client goes away meanwhile: then the engine need not."""
    task = asyncio.ensure_future(work)
    if (await asyncio.wait((task,), timeout=WATCHED_AFTER_S))[0]:
        return task.result()
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusedError(499, "the client went away")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(server: Server) -> FastAPI:
    """The application, without what stands before it (guard.py)."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(server.engine.start)  # warm before the first request is taken
        yield
        await asyncio.to_thread(server.engine.close)

    app = FastAPI(
        title="lasttoken",
        version=version("lasttoken"),
        description="Text classifiers: label, score and probabilities of texts.",
        docs_url=None,  # its page would be fetched from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_classification(app, server)
    _add_protocol(app, server)
    _add_about(app, server)
    _add_pages(app)
    return app


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence, "error_type": kind_of(status)}, status, headers)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return _refuse(error.status, error.sentence)

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        return _refuse(429, str(error), {"retry-after": str(error.retry_after_s)})

    @app.exception_handler(LateError)
    async def late(_: Request, __: LateError) -> JSONResponse:
        return _refuse(504, "the deadline passed before there was an answer; send fewer texts, or try again later")

    @app.exception_handler(ClosedError)
    async def closed(_: Request, __: ClosedError) -> JSONResponse:
        return _refuse(503, "the server is shutting down", {"retry-after": "5"})

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # of FastAPI's own, this is the only one
            return _refuse(400, "the body is not JSON in UTF-8, or is nested too deeply")
        return _refuse(error.status_code, str(error.detail).lower(), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _refuse(422, f"the body is not JSON; reading stopped at character {first['loc'][-1]}")
        if first["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
            return _refuse(422, "send the body as JSON, with the header Content-Type: application/json")
        where = ".".join(str(part) for part in first["loc"][:6])
        return _refuse(422, f"{where}: {str(first['msg']).lower()}")


def _add_classification(app: FastAPI, server: Server) -> None:
    @app.post("/classify", summary="Classify texts; also vLLM's body")
    async def classify(body: ClassifyBody, request: Request) -> Response:
        given = [name for name in ("text", "texts", "input") if getattr(body, name) is not None]
        if len(given) != 1:
            raise RefusedError(422, 'give one of "text", "texts" and "input"')
        value = getattr(body, given[0])
        texts = [value] if isinstance(value, str) else value
        if given == ["input"]:
            served = server.model(body.model)
            return JSONResponse(formats.vllm(served, await server.rows(request, texts, served)))
        if unknown := sorted(body.model_extra or {}):
            raise RefusedError(422, f"{unknown[0][:60]!r} is not known; use text or texts, model and top_k")
        names = list(server.engine.models) if body.model == EVERY else [server.model(body.model).name]
        found = await server.answers(request, texts, names)
        shown = {}
        for name in names:
            served = server.engine.models[name]
            several = served.predictor.classifier.config.multi_label
            rows = formats.rows_of(served, found[name])
            answers = [formats.ours(row, body.top_k, several) for row in rows]
            shown[name] = (
                {"model": name, **answers[0]} if given == ["text"] else {"model": name, "predictions": answers}
            )
        return JSONResponse({"models": shown} if body.model == EVERY else shown[names[0]])

    async def task(body: TaskBody, request: Request, served: Served) -> Response:
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        ours = "sigmoid" if served.predictor.classifier.config.multi_label else "softmax"
        parameters = body.parameters or Parameters(top_k=None)
        if parameters.function_to_apply not in (None, ours):
            raise RefusedError(422, f"parameters.function_to_apply must be {ours}, or be left out")
        rows = await server.rows(request, texts, served)
        return JSONResponse([formats.task(row, parameters.top_k) for row in rows])

    @app.post("/", summary="The Hugging Face text-classification task")
    async def root_task(body: TaskBody, request: Request) -> Response:
        return await task(body, request, server.model(None))

    @app.post("/models/{name}", summary="The Hugging Face task, of one of several models")
    async def model_task(name: str, body: TaskBody, request: Request) -> Response:
        return await task(body, request, server.model(name))

    @app.post("/predict", summary="text-embeddings-inference's body")
    async def predict(body: PredictBody, request: Request) -> Response:
        served = server.model(None)
        if body.raw_scores:
            raise RefusedError(422, "raw_scores is not offered: scores are calibrated probabilities")
        batch = isinstance(body.inputs, list) and any(isinstance(one, list) for one in body.inputs)
        sequences: Sequence[Any] = body.inputs if batch else [body.inputs]
        texts = [_joined(one) for one in sequences]
        found = [formats.task(row, None) for row in await server.rows(request, texts, served)]
        return JSONResponse(found if batch else found[0])

    @app.post("/explain", summary="Which words moved the decision")
    async def explain_text(body: ExplainBody, request: Request) -> Response:
        served = server.model(body.model)
        server.check([body.text])
        if len(body.text) > MAX_EXPLAINED:
            raise RefusedError(
                422, f"the text has {len(body.text):,} characters; at most {MAX_EXPLAINED:,} are explained"
            )
        if body.label is not None and body.label not in served.predictor.labels:
            raise RefusedError(422, "the classifier has no such label; /info lists them")
        work = server.engine.run(
            lambda: explain(served.predictor, body.text, label=body.label), body.text, server.limits.deadline_s
        )
        found = await _while_connected(request, work)
        words = [[word.text, word.value] for word in found.words]
        facts = {"label": found.label, "score": found.score, "method": found.method, "words": words}
        return JSONResponse({"model": served.name, **facts, "gap": found.gap})


def _joined(sequence: str | Sequence[str]) -> str:
    """A text, or two that belong together, joined as several text columns are in training."""
    parts = [sequence] if isinstance(sequence, str) else list(sequence)
    if not 1 <= len(parts) <= 2:
        raise RefusedError(422, "each of inputs must be a text, or a list of one text or of two that belong together")
    return "\n\n".join(parts)


def _add_protocol(app: FastAPI, server: Server) -> None:
    """The Open Inference Protocol, version 2."""

    @app.get("/v2", summary="The server")
    async def metadata() -> Response:
        return JSONResponse({"name": "lasttoken", "version": version("lasttoken"), "extensions": []})

    @app.get("/v2/health/live", summary="Alive?")
    async def live() -> Response:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", summary="Warm, and taking requests?")
    @app.get("/health", summary="The same, text-embeddings-inference's and vLLM's")
    async def ready() -> Response:
        return JSONResponse({"ready": server.engine.is_ready}, 200 if server.engine.is_ready else 503)

    @app.get("/v2/models/{name}/ready", summary="The same, of a model")
    async def model_ready(name: str) -> Response:
        return JSONResponse({"name": server.model(name).name, "ready": server.engine.is_ready})

    @app.get("/v2/models/{name}", summary="What a model takes and gives")
    async def model_metadata(name: str) -> Response:
        served = server.model(name)
        shapes = {"probs": [-1, len(served.predictor.labels)]}
        outputs = [
            {"name": output, "datatype": kind, "shape": shapes.get(output, [-1])}
            for output, kind in formats.OUTPUTS.items()
        ]
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        return JSONResponse(
            {"name": served.name, "versions": ["1"], "platform": "lasttoken", "inputs": inputs, "outputs": outputs}
        )

    @app.post("/v2/models/{name}/infer", summary="Classify texts")
    async def infer(name: str, body: InferBody, request: Request) -> Response:
        served = server.model(name)
        if len(body.inputs) != 1:
            raise RefusedError(422, f"there are {len(body.inputs)} inputs; send one, of datatype BYTES")
        tensor = body.inputs[0]
        texts = [text for one in tensor.data for text in (one if isinstance(one, list) else [one])]
        if tensor.datatype != "BYTES" or not all(isinstance(text, str) for text in texts):
            raise RefusedError(422, "the input must be of datatype BYTES, its data strings")
        if tensor.shape not in ([len(texts)], [len(texts), 1]):
            raise RefusedError(422, f"the input's shape must be [{len(texts)}], as many as its data")
        wanted = None if body.outputs is None else [one.name for one in body.outputs]
        if unknown := [one for one in wanted or [] if one not in formats.OUTPUTS]:
            raise RefusedError(422, f"there is no output {unknown[0][:60]!r}; use {', '.join(formats.OUTPUTS)}")
        return JSONResponse(formats.infer(served, await server.rows(request, texts, served), body.id, wanted))


def _add_about(app: FastAPI, server: Server) -> None:
    @app.get("/info", summary="The models, their figures, and the limits")
    async def info() -> Response:
        limits = {**vars(server.limits), "explained_characters": MAX_EXPLAINED}
        models = {name: _about(served) for name, served in server.engine.models.items()}
        trunks = [[one.name for one in group.members] for group in server.engine.groups]
        facts = {"token_needed": server.token_needed, "version": version("lasttoken")}
        return JSONResponse({"models": models, "trunks": trunks, "limits": limits, **facts})

    @app.get("/metrics", summary="Counts for Prometheus")
    async def metrics() -> Response:
        return Response(server.metrics.expose(), media_type=CONTENT_TYPE)


def _about(served: Served) -> dict[str, Any]:
    config, metrics = served.predictor.classifier.config, served.metrics
    figures = ("n", "accuracy", "accuracy_ci95", "micro_f1", "micro_f1_ci95", "macro_f1", "macro_f1_ci95", "ece")
    return {
        "labels": list(config.labels),
        "multi_label": config.multi_label,
        "backbone": config.backbone,
        "max_length": config.max_length,
        "precision": served.predictor.machine.precision,
        "device": served.predictor.machine.device.type,
        "decision": config.decision.in_words(config.labels, config.multi_label),
        "metrics": {
            split: {name: found[name] for name in figures if found.get(name) is not None}
            for split, found in (metrics.get("splits") or {}).items()
            if split != "train"
        },
        "verdict": list((metrics.get("verdict") or {}).get("sentences") or []),
        "warnings": list(metrics.get("warnings") or []),
    }


def _add_pages(app: FastAPI) -> None:
    page = files("lasttoken.serving") / "page"

    def asset(name: str) -> Callable[[], Awaitable[Response]]:
        content, kind = page.joinpath(name).read_bytes(), FILES[name]

        async def give() -> Response:
            return Response(content, media_type=kind)

        return give

    for path, name in {"/": "index.html", "/docs": "docs.html"}.items():
        app.add_api_route(path, asset(name), methods=["GET"], include_in_schema=False)
    for name in ("app.js", "docs.js", "style.css"):
        app.add_api_route(f"/{name}", asset(name), methods=["GET"], include_in_schema=False)
