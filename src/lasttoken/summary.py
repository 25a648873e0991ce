"""What a run found, put together: the content of metrics.json, and the facts of its report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version
from typing import Any

from lasttoken.config import METRICS, Settings
from lasttoken.data.gather import shared_with_train
from lasttoken.data.splits import label_counts, labels_of
from lasttoken.evaluation.baselines import Baseline, run_baselines
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.predict import log_softmax
from lasttoken.training.loop import Outcome, Split, tail_logits
from lasttoken.training.prepare import Prepared

VERSIONS_OF = ("lasttoken", "torch", "numpy", "tokenizers", "safetensors", "scikit-learn")


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    return {"python": python_version()} | {name: version(name) for name in VERSIONS_OF}


def measure(prepared: Prepared, splits: Mapping[str, Split]) -> dict[str, Metrics]:
    """The classifier's metrics on each split, from its features."""
    machine = prepared.predictor.machine
    return {
        name: compute_metrics(
            split.label_ids,
            prepared.labels,
            log_probs=log_softmax(tail_logits(prepared.classifier, split.source, machine)),
            intervals=True,
        )
        for name, split in splits.items()
    }


def measure_baselines(prepared: Prepared, seed: int) -> dict[str, Baseline]:
    """The baselines, trained on the same train rows and measured on the other splits."""
    named = prepared.splits.named()
    rows = {name: (examples.texts, labels_of(examples)) for name, examples in named.items() if name != "train"}
    return run_baselines(named["train"].texts, labels_of(named["train"]), rows, list(prepared.labels), seed)


def metrics_json(
    prepared: Prepared,
    outcome: Outcome,
    measured: Mapping[str, Metrics],
    baselines: Mapping[str, Baseline],
    timing_s: Mapping[str, float],
) -> dict[str, Any]:
    """The content of metrics.json, which other programs rely on."""
    return {
        "splits": {name: metrics.to_json() for name, metrics in measured.items()},
        "baselines": {
            name: {split: metrics.to_json() for split, metrics in baseline.metrics.items()}
            for name, baseline in baselines.items()
        },
        "timing_s": {name: round(seconds, 3) for name, seconds in timing_s.items()},
        "examples": {name: len(examples) for name, examples in prepared.splits.named().items()},
        "shared_with_train": shared_with_train(prepared.splits),
        "labels": list(prepared.labels),
        "kept_step": outcome.kept_step,
        "stopped": outcome.stopped,
    }


def report_facts(
    prepared: Prepared,
    settings: Settings,
    outcome: Outcome,
    metrics: Mapping[str, Any],
    baselines: Mapping[str, Baseline],
    curves: Mapping[str, str],
    source: str,
) -> dict[str, Any]:
    """The facts of report.html, see `render_report`. `source` names the data."""
    headline = "test" if "test" in metrics["splits"] else "validation"
    best = f"{'lowest' if METRICS[settings.metric] == 'min' else 'highest'} validation {settings.metric}"
    return {
        "title": f"{source} with {settings.backbone}",
        "run": {
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "lasttoken": version("lasttoken"),
            "backbone": settings.backbone,
            "data": source,
            "stopped": outcome.stopped,
            "kept": f"the weights of step {outcome.kept_step:,} ({best if settings.keep == 'best' else 'the last'})",
        },
        "headline": {"split": headline, "metrics": metrics["splits"][headline]},
        "splits": metrics["splits"],
        "baselines": metrics["baselines"],
        "baseline_notes": [baseline.note for baseline in baselines.values() if baseline.note],
        "data": {
            "counts": {name: label_counts(examples) for name, examples in prepared.splits.named().items()},
            "notes": [*prepared.splits.notes, *prepared.notes],
            "shared_with_train": metrics["shared_with_train"],
            "tokens": {
                "longest_train": prepared.encoded["train"].longest,
                "cut_texts": int(sum(encoded.cut.sum() for encoded in prepared.encoded.values())),
                "cut_tokens": sum(encoded.n_cut_tokens for encoded in prepared.encoded.values()),
            },
        },
        "settings": settings.to_toml(),
        "versions": versions(),
        "timing_s": metrics["timing_s"],
        "curves": dict(curves),
    }
