"""What the server answers: one model's answer to N texts, in each interface's own shape."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np

from lasttoken.classifier.predict import PROBABILITY_DECIMALS, given_labels
from lasttoken.serving.engine import Answer
from lasttoken.serving.models import Served


@dataclass(frozen=True)
class Row:
    """One text's answer. `ranked`: (label, probability), the likeliest first."""

    label: str | None
    labels: list[str]
    score: float
    ranked: list[tuple[str, float]]
    n_tokens: int
    truncated: bool

    def by_label(self, names: Sequence[str]) -> list[float]:
        """The probabilities in the order of `names`."""
        probs = dict(self.ranked)
        return [probs[name] for name in names]


def rows_of(served: Served, answer: Answer) -> list[Row]:
    """The answers to N texts, as `predict` gives them."""
    config, names = served.predictor.classifier.config, served.predictor.labels
    probs = np.exp(answer.log_probs.astype(np.float64)).round(PROBABILITY_DECIMALS)
    order = np.argsort(-probs, axis=1, kind="stable")  # of the rounded ones: a batch must not change the order
    given = given_labels(answer.log_probs, config)
    return [
        Row(
            names[ids[0]] if ids else None,
            [names[label_id] for label_id in ids],
            row[ids[0] if ids else ranked[0]],
            [(names[label_id], row[label_id]) for label_id in ranked],
            n_tokens,
            cut,
        )
        for ids, ranked, row, n_tokens, cut in zip(
            given, order.tolist(), probs.tolist(), answer.n_tokens.tolist(), answer.cut.tolist(), strict=True
        )
    ]


def ours(row: Row, top_k: int | None, multi_label: bool) -> dict[str, Any]:
    """The answer to a text of POST /classify."""
    several = {"labels": row.labels} if multi_label else {}
    probs = dict(row.ranked[:top_k])
    return {
        "label": row.label,
        **several,
        "score": row.score,
        "probs": probs,
        "n_tokens": row.n_tokens,
        "truncated": row.truncated,
    }


def task(row: Row, top_k: int | None) -> list[dict[str, Any]]:
    """The Hugging Face task's answer to a text: labels with their scores, the likeliest first."""
    return [{"label": label, "score": score} for label, score in row.ranked[:top_k]]


def vllm(served: Served, rows: Sequence[Row], request_id: str | None = None) -> dict[str, Any]:
    """vLLM's `ClassificationResponse`; `label` is null where the classifier abstains, `probs` by label id."""
    names = served.predictor.labels
    n_tokens = sum(row.n_tokens for row in rows)
    return {
        "id": f"classify-{request_id or uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": served.name,
        "data": [
            {
                "index": index,
                "label": row.label,
                "probs": row.by_label(names),
                "num_classes": len(names),
            }
            for index, row in enumerate(rows)
        ],
        "usage": {
            "prompt_tokens": n_tokens,
            "total_tokens": n_tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


def models_list(names_and_lengths: Mapping[str, int], created: int) -> dict[str, Any]:
    """OpenAI's list of models, with vLLM's `max_model_len`; `created`: when the server was started, in Unix seconds."""
    data = [model_card(name, max_length, created) for name, max_length in names_and_lengths.items()]
    return {"object": "list", "data": data}


def model_card(name: str, max_length: int, created: int) -> dict[str, Any]:
    """A model of `models_list`."""
    about = {"id": name, "object": "model", "created": created, "owned_by": "lasttoken"}
    return {**about, "root": name, "parent": None, "max_model_len": max_length, "permission": []}


OUTPUTS = {"label": "BYTES", "score": "FP64", "probs": "FP64", "truncated": "BOOL"}


def infer(served: Served, rows: Sequence[Row], request_id: str | None, wanted: Sequence[str] | None) -> dict[str, Any]:
    """The Open Inference Protocol's answer: label, score, truncated [N] and probs [N, K], by label id."""
    names, n = served.predictor.labels, len(rows)
    data: dict[str, list[Any]] = {
        "label": [row.label or "" for row in rows],
        "score": [row.score for row in rows],
        "probs": [p for row in rows for p in row.by_label(names)],
        "truncated": [row.truncated for row in rows],
    }
    outputs = [
        {"name": name, "datatype": kind, "shape": [n, len(names)] if name == "probs" else [n], "data": data[name]}
        for name, kind in OUTPUTS.items()
        if wanted is None or name in wanted
    ]
    found = {"model_name": served.name, "model_version": "1", "outputs": outputs}
    return found | ({"id": request_id} if request_id is not None else {})
