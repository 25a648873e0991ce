"""The server's routes: what comes in is checked, handed to the engine, and told in the client's own shape.

The models run in the engine's threads, explanations in one of their own; everything here is on the event loop and
waits. Long bodies and long answers are read and written in a small pool. An error is one sentence of JSON:
{"error": …, "error_type": …}.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from lasttoken.classifier.explain import Explanation, explain
from lasttoken.classifier.predict import PROBABILITY_DECIMALS
from lasttoken.serving import formats
from lasttoken.serving.bodies import BODIES, ClassifyBody, ExplainBody, InferBody, Parameters, PredictBody, TaskBody
from lasttoken.serving.engine import Answer, ClosedError, DeadlineExceededError, Engine, QueueFullError
from lasttoken.serving.explainer import Between, Explainer
from lasttoken.serving.intake import Intake
from lasttoken.serving.limits import Limits
from lasttoken.serving.metrics import CONTENT_TYPE, ServerMetrics
from lasttoken.serving.models import Served
from lasttoken.serving.refusals import CLIENT_GONE, RefusedError, refusal_body

EVERY = "*"  # all models
WATCHED_AFTER_S = 0.25  # a quicker answer needs nobody to look whether the client is still there
FEW_VALUES = 2_000  # probabilities in an answer; more are written in the pool
POOL_THREADS = 2
NO_TELEMETRY: Any = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
FILES = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}

T = TypeVar("T")


@dataclass
class Server:
    """What the routes share."""

    engine: Engine
    limits: Limits
    metrics: ServerMetrics
    token_needed: bool = False
    explainer: Explainer = field(default_factory=Explainer)

    def __post_init__(self) -> None:
        """The pool, and what reads bodies with it."""
        self.pool = ThreadPoolExecutor(POOL_THREADS, "json")
        self.intake = Intake(self.limits, self.pool)
        self.created = int(time.time())

    def start(self) -> None:
        """Warm the models up, and take requests."""
        self.engine.start()
        self.explainer.start()

    def close(self) -> None:
        """Answer those that wait, and end the threads."""
        self.explainer.close()
        self.engine.close()
        self.pool.shutdown()

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
        """Refuse too many texts, and texts that are too long.

        Raises:
            RefusedError: which, and what is allowed.
        """
        if not texts:
            raise RefusedError(422, "there are no texts; send one or more")
        if len(texts) > self.limits.texts:
            raise RefusedError(413, f"there are {len(texts):,} texts; send at most {self.limits.texts:,} at a time")
        for index, text in enumerate(texts):
            if len(text) > self.limits.characters:
                sentence = f"text {index} has {len(text):,} characters; at most {self.limits.characters:,} are taken"
                raise RefusedError(422, sentence)

    async def answers(self, request: Request, texts: Sequence[str], names: Sequence[str]) -> dict[str, Answer]:
        """The models' answers, as they come from the engine."""
        self.check(texts)
        request.state.facts["n_texts"] = len(texts)
        return await _while_connected(request, self.engine.classify(texts, names, self.limits.deadline_s))

    async def told(
        self,
        request: Request,
        texts: Sequence[str],
        served: Served,
        shape: Callable[[list[formats.Row]], Any],
        truncate: bool = True,
    ) -> Response:
        """One model's answer to some texts, shaped for the client; `truncate` False refuses texts that were cut.

        Raises:
            RefusedError: 413 for a text that is too long, where it must not be cut.
        """
        answer = (await self.answers(request, texts, [served.name]))[served.name]
        if not truncate and answer.cut.any():
            limit = served.predictor.classifier.config.max_length
            sentence = (
                f"text {int(answer.cut.argmax())} of inputs has more than {limit:,} tokens, and truncate is false"
            )
            raise RefusedError(413, sentence)
        n_values = len(texts) * len(served.predictor.labels)
        return await self.json(lambda: shape(formats.rows_of(served, answer)), n_values)

    async def json(self, build: Callable[[], Any], n_values: int) -> Response:
        """What `build` makes, as JSON; where it has many values, away from the event loop."""

        def content() -> bytes:
            return to_json(build())

        if n_values <= FEW_VALUES:
            return Response(content(), media_type="application/json")
        loop = asyncio.get_running_loop()
        return Response(await loop.run_in_executor(self.pool, content), media_type="application/json")


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Do the work, unless the client goes away meanwhile: then the engine need not."""
    task = asyncio.ensure_future(work)
    gone: asyncio.Future[None] | None = None
    try:
        if not (await asyncio.wait((task,), timeout=WATCHED_AFTER_S))[0]:
            gone = asyncio.ensure_future(_disconnected(request))
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusedError(CLIENT_GONE, "the client went away")
        return task.result()
    finally:
        task.cancel()
        if gone:
            gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(server: Server) -> FastAPI:
    """The application, without what stands before it (guard.py)."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(server.start)  # warm before the first request is taken
        yield
        await asyncio.to_thread(server.close)

    app = FastAPI(
        title="lasttoken",
        version=version("lasttoken"),
        description="Text classifiers: label, score and probabilities of texts.",
        docs_url=None,  # its page would be fetched from another host
        redoc_url=None,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,  # whatever OTEL_* and FASTAPI_OTEL_* variables say: it would send requests elsewhere
    )
    _add_errors(app)
    _add_classification(app, server)
    _add_other_servers(app, server)
    _add_protocol(app, server)
    _add_about(app, server)
    _add_pages(app)
    _describe_bodies(app)
    return app


def _body(kind: type[BaseModel]) -> dict[str, Any]:
    """A route's body in OpenAPI; it is read by `Intake`, of which FastAPI does not know."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _describe_bodies(app: FastAPI) -> None:
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        template = "#/components/schemas/{model}"
        _, bodies = models_json_schema([(kind, "validation") for kind in BODIES], ref_template=template)
        schema.setdefault("components", {}).setdefault("schemas", {}).update(bodies["$defs"])
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _json(content: Any, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type="application/json")


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return Response(refusal_body(status, sentence), status, headers, "application/json")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return _refuse(error.status, error.sentence, error.headers)

    @app.exception_handler(QueueFullError)
    async def busy(_: Request, error: QueueFullError) -> Response:
        return _refuse(429, str(error), {"retry-after": str(error.retry_after_s)})

    @app.exception_handler(DeadlineExceededError)
    async def late(_: Request, __: DeadlineExceededError) -> Response:
        return _refuse(504, "the deadline passed before there was an answer; send fewer texts, or try again later")

    @app.exception_handler(ClosedError)
    async def closed(_: Request, __: ClosedError) -> Response:
        return _refuse(503, "the server is shutting down", {"retry-after": "5"})

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return _refuse(error.status_code, str(error.detail).lower(), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return _refuse(500, "internal error; the log has its kind")


def _add_classification(app: FastAPI, server: Server) -> None:
    @app.post("/classify", summary="Classify texts; also vLLM's body", openapi_extra=_body(ClassifyBody))
    async def classify(request: Request) -> Response:
        async with server.intake.body(request, ClassifyBody) as body:
            given = [name for name in ("text", "texts", "input") if getattr(body, name) is not None]
            if len(given) != 1:
                raise RefusedError(422, 'give one of "text", "texts" and "input"')
            if given == ["input"]:
                return await _for_vllm(server, request, body)
            if body.vllm_fields:
                raise RefusedError(422, f"the field {body.vllm_fields[0]!r} goes with input; leave it out")
            return await _ours(server, request, body)

    @app.post("/explain", summary="Which words moved the decision", openapi_extra=_body(ExplainBody))
    async def explain_text(request: Request) -> Response:
        async with server.intake.body(request, ExplainBody) as body:
            served, text, label = server.model(body.model), body.text, body.label
            server.check([text])
            most = server.limits.explained_characters
            if len(text) > most:
                raise RefusedError(422, f"the text has {len(text):,} characters; at most {most:,} are explained")
            if label is not None and label not in served.predictor.labels:
                raise RefusedError(422, "the classifier has no such label; /info lists them")

            def work(between: Between) -> Explanation:
                return explain(served.predictor, text, label=label, between=between)

            found = await _while_connected(request, server.explainer.run(work, server.limits.deadline_s))
            return await server.json(lambda: _explained(served, found), len(found.words))


async def _ours(server: Server, request: Request, body: ClassifyBody) -> Response:
    texts = [body.text] if body.text is not None else body.texts or []
    names = list(server.engine.models) if body.model == EVERY else [server.model(body.model).name]
    answers = await server.answers(request, texts, names)

    def of_model(name: str) -> dict[str, Any]:
        served = server.engine.models[name]
        multi_label = served.predictor.classifier.config.multi_label
        rows = [formats.ours(row, body.top_k, multi_label) for row in formats.rows_of(served, answers[name])]
        return {"model": name, **rows[0]} if body.text is not None else {"model": name, "predictions": rows}

    def content() -> dict[str, Any]:
        return {"models": {name: of_model(name) for name in names}} if body.model == EVERY else of_model(names[0])

    n_values = len(texts) * sum(len(server.engine.models[name].predictor.labels) for name in names)
    return await server.json(content, n_values)


async def _for_vllm(server: Server, request: Request, body: ClassifyBody) -> Response:
    if body.top_k is not None:
        raise RefusedError(422, "top_k goes with text or texts; input is answered with all probabilities")
    served = server.model(body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    return await server.told(request, texts, served, lambda rows: formats.vllm(served, rows, body.request_id))


def _explained(served: Served, found: Explanation) -> dict[str, Any]:
    words = [[word.text, round(word.value, PROBABILITY_DECIMALS)] for word in found.words]
    score, gap = round(found.score, PROBABILITY_DECIMALS), round(found.gap, PROBABILITY_DECIMALS)
    facts = {"label": found.label, "score": score, "method": found.method, "words": words}
    return {"model": served.name, **facts, "gap": gap}


def _add_other_servers(app: FastAPI, server: Server) -> None:
    """The Hugging Face task, and text-embeddings-inference's body."""

    async def task(request: Request, name: str | None) -> Response:
        async with server.intake.body(request, TaskBody) as body:
            if name is not None and body.model not in (None, name):
                raise RefusedError(422, "the field 'model' and the address name different models; leave one out")
            served = server.model(name or body.model)
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
            ours = "sigmoid" if served.predictor.classifier.config.multi_label else "softmax"
            parameters = body.parameters or Parameters(top_k=None, truncation=None)
            if parameters.function_to_apply not in (None, ours):
                raise RefusedError(422, f"parameters.function_to_apply must be {ours}, or be left out")
            return await server.told(
                request, texts, served, lambda rows: [formats.task(row, parameters.top_k) for row in rows]
            )

    @app.post("/", summary="The Hugging Face text-classification task", openapi_extra=_body(TaskBody))
    async def root_task(request: Request) -> Response:
        return await task(request, None)

    @app.post(
        "/models/{name}", summary="The Hugging Face task, of one of several models", openapi_extra=_body(TaskBody)
    )
    async def model_task(name: str, request: Request) -> Response:
        return await task(request, name)

    @app.post("/predict", summary="text-embeddings-inference's body", openapi_extra=_body(PredictBody))
    async def predict(request: Request) -> Response:
        async with server.intake.body(request, PredictBody) as body:
            served, inputs = server.model(body.model), body.inputs
            side = "right" if served.predictor.classifier.config.truncate == "tail" else "left"
            if body.truncation_direction is not None and body.truncation_direction.lower() != side:
                raise RefusedError(422, f"truncation_direction must be {side}, as the classifier was trained")
            is_batch = isinstance(inputs, list) and any(isinstance(item, list) for item in inputs)
            if isinstance(inputs, list) and not is_batch and len(inputs) != 1:
                sentence = (
                    'inputs is a list of {n} strings: send [["one"], ["two"]] for texts, [["one", "two"]] for a pair'
                )
                raise RefusedError(422, sentence.format(n=len(inputs)))
            texts = [_joined(sequence) for sequence in (inputs if is_batch else [inputs])]

            def shape(rows: list[formats.Row]) -> Any:
                answers = [formats.task(row, None) for row in rows]
                return answers if is_batch else answers[0]

            return await server.told(request, texts, served, shape, body.truncate is not False)


def _joined(sequence: str | Sequence[Any]) -> str:
    """A text, or two that belong together, joined as several text columns are in training."""
    parts = [sequence] if isinstance(sequence, str) else list(sequence)
    if not 1 <= len(parts) <= 2:
        raise RefusedError(422, "each of inputs must be a text, or a list of one text or of two that belong together")
    return "\n\n".join(parts)


def _add_protocol(app: FastAPI, server: Server) -> None:
    """The Open Inference Protocol, version 2."""

    @app.get("/v2", summary="The server")
    async def metadata() -> Response:
        return _json({"name": "lasttoken", "version": version("lasttoken"), "extensions": []})

    @app.get("/v2/health/live", summary="Alive?")
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", summary="Warm, and taking requests?")
    @app.get("/health", summary="The same, text-embeddings-inference's and vLLM's")
    async def ready() -> Response:
        return _json({"ready": server.engine.is_ready}, 200 if server.engine.is_ready else 503)

    @app.get("/v2/models/{name}/ready", summary="The same, of a model")
    async def model_ready(name: str) -> Response:
        return _json({"name": server.model(name).name, "ready": server.engine.is_ready})

    @app.get("/v2/models/{name}", summary="What a model takes and gives")
    async def model_metadata(name: str) -> Response:
        served = server.model(name)
        shapes = {"probs": [-1, len(served.predictor.labels)]}
        outputs = [
            {"name": output, "datatype": kind, "shape": shapes.get(output, [-1])}
            for output, kind in formats.OUTPUTS.items()
        ]
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        facts = {"name": served.name, "versions": ["1"], "platform": "lasttoken"}
        return _json({**facts, "inputs": inputs, "outputs": outputs})

    @app.post("/v2/models/{name}/infer", summary="Classify texts", openapi_extra=_body(InferBody))
    async def infer(name: str, request: Request) -> Response:
        async with server.intake.body(request, InferBody) as body:
            served = server.model(name)
            if len(body.inputs) != 1:
                raise RefusedError(422, f"there are {len(body.inputs)} inputs; send one, of datatype BYTES")
            tensor = body.inputs[0]
            texts = [text for item in tensor.data for text in (item if isinstance(item, list) else [item])]
            if tensor.shape not in ([len(texts)], [len(texts), 1]):
                raise RefusedError(422, f"the input's shape must be [{len(texts)}], as many as its data")
            wanted = None if body.outputs is None else [output.name for output in body.outputs]
            if unknown := [output for output in wanted or [] if output not in formats.OUTPUTS]:
                raise RefusedError(422, f"there is no output {unknown[0][:60]!r}; use {', '.join(formats.OUTPUTS)}")
            return await server.told(request, texts, served, lambda rows: formats.infer(served, rows, body.id, wanted))


def _add_about(app: FastAPI, server: Server) -> None:
    @app.get("/info", summary="The models, their figures, and the limits")
    async def info() -> Response:
        models = {name: _about(served) for name, served in server.engine.models.items()}
        trunks = [[one.name for one in group.members] for group in server.engine.groups]
        facts = {"token_needed": server.token_needed, "version": version("lasttoken")}
        return _json({"models": models, "trunks": trunks, "limits": vars(server.limits), **facts})

    @app.get("/v1/models", summary="The models, as OpenAI's and vLLM's clients ask for them")
    async def models() -> Response:
        lengths = {name: _max_length(served) for name, served in server.engine.models.items()}
        return _json(formats.models_list(lengths, server.created))

    @app.get("/v1/models/{name}", summary="One of them")
    async def model(name: str) -> Response:
        served = server.model(name)
        return _json(formats.model_card(served.name, _max_length(served), server.created))

    @app.get("/metrics", summary="Counts for Prometheus")
    async def metrics() -> Response:
        return Response(server.metrics.expose(), media_type=CONTENT_TYPE)


def _max_length(served: Served) -> int:
    return served.predictor.classifier.config.max_length


def _about(served: Served) -> dict[str, Any]:
    config, metrics = served.predictor.classifier.config, served.metrics
    figures = ("n", "accuracy", "accuracy_ci95", "micro_f1", "micro_f1_ci95", "macro_f1", "macro_f1_ci95", "ece")
    return {
        "labels": list(config.labels),
        "multi_label": config.multi_label,
        "text_columns": list(config.columns.text) if config.columns else [],
        "backbone": config.backbone,
        "max_length": config.max_length,
        "precision": served.predictor.device.precision,
        "device": served.predictor.device.torch_device.type,
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
