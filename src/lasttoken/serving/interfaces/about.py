"""The server about itself: its models with their metrics and limits, its health, and counts for Prometheus."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import Request, Response

from lasttoken.core.metric_registry import metrics_at
from lasttoken.serving.metrics import CONTENT_TYPE
from lasttoken.serving.models import ServedModel
from lasttoken.serving.routes import Get, Route
from lasttoken.serving.server import Server, json_response


async def info(server: Server, _: Request) -> Response:
    """Describe the models, which of them share a trunk, and the limits."""
    return json_response(
        {
            "models": {name: describe(model) for name, model in server.engine.models.items()},
            "trunks": [[model.name for model in group.members] for group in server.engine.groups],
            "limits": vars(server.limits),
            "token_needed": server.token_needed,
            "version": version("lasttoken"),
        }
    )


def describe(model: ServedModel) -> dict[str, Any]:
    """What /info says of a model; the metrics are those of its run, without the training split's."""
    config, metrics = model.predictor.classifier.config, model.metrics
    shown = ["n", *(metric.name for metric in metrics_at("server"))]
    shown += [f"{metric.name}_ci95" for metric in metrics_at("server interval")]
    return {
        "labels": list(config.labels),
        "multi_label": config.task.multi_label,
        "text_columns": list(config.columns.text) if config.columns else [],
        "backbone": config.backbone,
        "max_length": config.max_length,
        "precision": model.predictor.device.precision,
        "device": model.predictor.device.torch_device.type,
        "decision": config.task.rule_in_words(config.decision),
        "metrics": {
            split: {name: values[name] for name in shown if values.get(name) is not None}
            for split, values in (metrics.get("splits") or {}).items()
            if split != "train"
        },
        "verdict": list((metrics.get("verdict") or {}).get("sentences") or []),
        "warnings": list(metrics.get("warnings") or []),
    }


async def ready(server: Server, _: Request) -> Response:
    """Answer 200 if the models are warm and requests are taken, otherwise 503."""
    return json_response({"ready": server.engine.is_ready}, 200 if server.engine.is_ready else 503)


async def metrics(server: Server, _: Request) -> Response:
    """Counts and durations in Prometheus' text format."""
    return Response(server.metrics.expose(), media_type=CONTENT_TYPE)


ROUTES: tuple[Route, ...] = (
    Get("/info", info, "The models, their metrics, and the limits"),
    Get(
        "/health",
        ready,
        "The same as /v2/health/ready, under text-embeddings-inference's and vLLM's path",
        is_open=True,
    ),
    Get("/metrics", metrics, "Counts for Prometheus"),
)
