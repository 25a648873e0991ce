"""The results of a run, put together: the content of metrics.json, and the facts of its report."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version
from typing import Any

import numpy as np

from lasttoken.backbone.catalog import prompt_of
from lasttoken.classifier.explain import OCCLUSION, explain, occlusion_passes
from lasttoken.core.config import CHOSEN, Settings, flag_of, switch_of
from lasttoken.core.method import IMPLIED
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.recipes import RECIPES
from lasttoken.data.files import Examples
from lasttoken.data.gather import shared_with_train
from lasttoken.data.label_tables import label_counts, labels_of
from lasttoken.evaluation.baselines import metrics_of
from lasttoken.evaluation.intervals import share_right
from lasttoken.evaluation.precision_recall import precision_recall_curve
from lasttoken.report.search import search_table
from lasttoken.report.sections import MAX_LISTED
from lasttoken.runs.assess import Judged
from lasttoken.runs.scored import Scored
from lasttoken.runs.session import completed
from lasttoken.training.loop import TrainingOutcome
from lasttoken.training.prepare import Prepared

VERSIONS_OF = ("lasttoken", "torch", "numpy", "tokenizers", "safetensors", "scikit-learn")
N_ERRORS, N_UNSURE, N_EXPLAINED = 20, 10, 10  # examples in the report
EXPLAINED_TOKENS = 20_000  # that the explanations of the report may read together
NO_LABEL = "(none)"  # in the report, where a text has no label
MAX_CURVES = 20  # labels with a curve of precision and recall


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {"python": python_version()} | {name: version(name) for name in VERSIONS_OF}


def metrics_json(
    prepared: Prepared,
    outcome: TrainingOutcome,
    judged: Judged,
    timing_s: Mapping[str, float],
    repeats: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of metrics.json, which programs read. `repeats`: further trainings and learning curve, if any."""
    calibration = judged.calibration or {}
    return {
        "splits": {name: scored.metrics.to_json() for name, scored in judged.scored.items()},
        "baselines": metrics_of(judged.baselines),
        "verdict": judged.verdict.to_json() if judged.verdict else None,
        "warnings": judged.warnings,
        "unleaked": judged.unleaked,
        "calibration": {name: value for name, value in calibration.items() if not name.startswith("bins")},
        "decision": _rule_in_words(prepared),
        "targets": [result.to_json() for result in judged.targets],
        "answered": _answered(judged.on_headline),
        "slices": [one_slice.to_json() for one_slice in judged.slices],
        "data": {"notes": list(prepared.splits.notes), **prepared.splits.facts},
        "audit": {"findings": list(judged.audit.findings()), "notes": list(judged.audit.notes())},
        **({"ngrams": judged.ngrams} if judged.ngrams else {}),
        **repeats,
        "timing_s": {name: round(seconds, 3) for name, seconds in timing_s.items()},
        "examples": {name: len(examples) for name, examples in prepared.splits.named().items()},
        "shared_with_train": shared_with_train(prepared.splits),
        "labels": list(prepared.labels),
        "multi_label": prepared.classifier.config.task.multi_label,
        "kept_step": outcome.kept_step,
        "stopped": outcome.stopped,
    }


def _answered(scored: Scored) -> dict[str, Any]:
    """Accuracy on the rows of the headline split that the classifier answers, and their fraction."""
    answered = share_right(scored.correct[scored.answered])
    return {**answered, "share": answered["n"] / len(scored.answered)}


def report_facts(
    prepared: Prepared,
    settings: Settings,
    outcome: TrainingOutcome,
    judged: Judged,
    metrics: Mapping[str, Any],
    curves: Mapping[str, str],
    source: str,
) -> dict[str, Any]:
    """The facts of report.html, see `render_report`. `source` names the data."""
    headline = judged.headline
    rule = prepared.classifier.config.decision
    return {
        "title": f"{source} with {prepared.classifier.config.backbone}",
        "run": _run_facts(prepared, settings, outcome, source),
        "headline": {"split": headline, "metrics": metrics["splits"][headline]},
        "verdict": metrics["verdict"],
        "warnings": judged.warnings,
        "unleaked": {name: values for name, values in judged.unleaked.items() if values["n"]},
        "decision": None
        if not prepared.classifier.config.task.has_own_rule(rule) and not judged.targets
        else {"sentence": _decision_in_words(prepared, metrics, judged)},
        "splits": metrics["splits"],
        "baselines": metrics["baselines"],
        "baseline_notes": [baseline.note for baseline in judged.baselines.values() if baseline.note],
        "audit": _audit_facts(judged),
        "calibration": judged.calibration,
        "pr_curve": _pr_curves(prepared, judged.on_headline),
        "slices": metrics["slices"],
        "multi_label": prepared.classifier.config.task.multi_label,
        **_example_facts(prepared, judged),
        "data": _data_facts(prepared, metrics["shared_with_train"]),
        "choice": metrics.get("choice"),
        "search": (search := metrics.get("search")),
        "search_slices": search if (table := search_table(search)) and table.has_slices else None,
        "ngrams": judged.ngrams,
        "is_path": any("C" in line for line in outcome.history),
        "repeats": metrics.get("folds") or metrics.get("seeds"),
        "learning_curve": metrics.get("learning_curve"),
        "command": _command(settings, source, prepared),
        "settings": {**settings.to_toml(), **_columns(prepared)},
        "versions": versions(),
        "timing_s": {**metrics["timing_s"], "total": metrics["durations_s"]["total"]},
        "curves": dict(curves),
    }


def _columns(prepared: Prepared) -> dict[str, Any]:
    """The text and label columns that were read, whether the user named them or not; nothing if they are not known."""
    columns = prepared.classifier.config.columns
    return {"text": list(columns.text), "label": list(columns.label)} if columns else {}


def _run_facts(prepared: Prepared, settings: Settings, outcome: TrainingOutcome, source: str) -> dict[str, Any]:
    best = f"{'lowest' if METRICS[settings.metric].direction == 'min' else 'highest'} validation {settings.metric}"
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "lasttoken": version("lasttoken"),
        "backbone": prepared.classifier.config.backbone,
        "data": source,
        "stopped": outcome.stopped,
        "kept": _kept_in_words(outcome, "the last" if settings.keep == "last" else best),
    }


def _kept_in_words(outcome: TrainingOutcome, why: str) -> str:
    kept = next((line for line in outcome.history if line.get("best")), {})
    return (
        f"the head at C = {kept['C']:g} ({why})"
        if "C" in kept
        else f"the weights of step {outcome.kept_step:,} ({why})"
    )


def _data_facts(prepared: Prepared, shared_with_train: Mapping[str, int]) -> dict[str, Any]:
    named = prepared.splits.named()
    return {
        "rows": {name: len(examples) for name, examples in named.items()},
        "counts": {name: label_counts(examples) for name, examples in named.items()},
        "notes": [*prepared.splits.notes, *prepared.notes],
        "shared_with_train": shared_with_train,
        "hashes": {name: hash_of(examples) for name, examples in named.items()},
        "tokens": {
            "longest_train": prepared.encoded["train"].longest,
            "cut_texts": int(sum(encoded.cut.sum() for encoded in prepared.encoded.values())),
            "cut_tokens": sum(encoded.n_cut_tokens for encoded in prepared.encoded.values()),
        },
    }


def _rule_in_words(prepared: Prepared) -> str:
    config = prepared.classifier.config
    return config.task.rule_in_words(config.decision)


def _decision_in_words(prepared: Prepared, metrics: Mapping[str, Any], judged: Judged) -> str:
    sentence = "; ".join([_rule_in_words(prepared), *(result.sentence() for result in judged.targets)])
    answered = metrics["answered"]
    if not prepared.classifier.config.decision.abstain_below:
        return sentence
    if not answered["n"]:
        return f"{sentence}: no text is answered"
    return f"{sentence}: {answered['share']:.1%} are answered, and {answered['accuracy']:.1%} of these are correct"


def hash_of(examples: Examples) -> str:
    """sha256 of the texts and labels in order: runs with the same hash were measured on the same rows."""
    digest = hashlib.sha256()
    for text, label in zip(examples.texts, labels_of(examples), strict=True):
        for part in (text, label):
            content = part.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _audit_facts(judged: Judged) -> dict[str, Any]:
    lists = [
        {
            "title": title[:1].upper() + title[1:],
            "n": len(rows),
            "rows": [
                {**vars(row), "where": f"{row.where}, like {row.like}" if row.like else row.where}
                for row in rows[:MAX_LISTED]
            ],
        }
        for title, rows in judged.audit.lists().items()
    ]
    return {"sentences": list(judged.audit.sentences()), "lists": lists}


def _pr_curves(prepared: Prepared, scored: Scored) -> dict[str, Any]:
    """The curve of each label that occurs, or of the rarest ones where there are many."""
    has = scored.task.has_labels(scored.truth)
    n_rows = has.sum(axis=0)
    occurring = [label_id for label_id in np.argsort(n_rows, kind="stable").tolist() if n_rows[label_id]]
    per_label = {values.label: values for values in scored.metrics.per_label}
    curves = {}
    for label_id in sorted(occurring[:MAX_CURVES]):
        label = prepared.labels[label_id]
        curve = precision_recall_curve(has[:, label_id], scored.log_probs[:, label_id])
        curves[label] = {
            **curve.to_json(),
            "average_precision": per_label[label].average_precision,
            "n": int(n_rows[label_id]),
        }
    return curves


def _example_facts(prepared: Prepared, judged: Judged) -> dict[str, Any]:
    """The most confident errors and the least certain predictions of the headline split, the first ones with words."""
    scored, labels = judged.on_headline, prepared.labels
    texts = prepared.splits.named()[judged.headline].texts
    score, explained_ids = scored.answer_probs(), scored.explained_label_ids()
    truth, predicted = scored.task.joined(scored.truth), scored.task.joined(scored.predicted)
    wrong = np.flatnonzero(scored.task.is_confident_error(scored.log_probs, scored.truth, scored.correct))
    margin = scored.task.margins(scored.log_probs)

    def facts(row: int, explained: bool) -> dict[str, Any]:
        return {
            "row": int(row) + 1,
            "text": texts[row],
            "label": truth[row] or NO_LABEL,
            "predicted": predicted[row] or NO_LABEL,
            "score": float(score[row]),
            "words": _words(prepared, texts[row], labels[explained_ids[row]]) if explained else None,
        }

    errors = wrong[np.argsort(-score[wrong], kind="stable")][:N_ERRORS]
    explained = _affordable(prepared, judged.headline, errors[:N_EXPLAINED].tolist())
    unsure = np.argsort(margin, kind="stable")[:N_UNSURE]
    return {
        "errors": [facts(row, row in explained) for row in errors.tolist()],
        "unsure": [facts(row, False) for row in unsure.tolist()],
    }


def _affordable(prepared: Prepared, split: str, rows: list[int]) -> set[int]:
    """The rows whose explanations together read at most `EXPLAINED_TOKENS`; the first ones go first.

    Each text is read about as often as it has words, so long ones would take longer than the training.
    """
    texts, lengths = prepared.splits.named()[split].texts, prepared.encoded[split].lengths
    left, taken = EXPLAINED_TOKENS, set[int]()
    for row in rows:
        n_tokens = occlusion_passes(texts[row]) * int(lengths[row])
        if n_tokens <= left:
            left -= n_tokens
            taken.add(row)
    return taken


def _words(prepared: Prepared, text: str, label: str) -> list[list[Any]]:
    """Each word with what leaving it out changes; gradients would take longer than a training where it is quick."""
    return [[word.text, word.value] for word in explain(prepared.predictor, text, label=label, method=OCCLUSION).words]


def _command(settings: Settings, source: str, prepared: Prepared) -> str:
    """The command that repeats the training, with the differences from the recipe as flags."""
    usual = {item.name: item.default for item in fields(Settings)} | IMPLIED[settings.method]
    left_open = replace(Settings(), method=settings.method, train_blocks=settings.train_blocks)
    by_backbone = completed(left_open, prepared.classifier.decoder.config, prepared.splits.train)
    usual |= RECIPES[settings.recipe]
    usual["prompt"] = settings.prompt if settings.template == prompt_of(settings.backbone) else usual["prompt"]
    parts = ["lasttoken", "train", source]
    parts += ["--recipe", settings.recipe] if settings.recipe != "default" else []
    for name, value in settings.to_toml().items():
        same = (tuple(value) if isinstance(value, list) else value) == usual[name]
        if name == "recipe" or same or (usual[name] in (None, CHOSEN) and value == getattr(by_backbone, name)):
            continue
        if isinstance(value, bool):
            parts.append(switch_of(name, value))
            continue
        for element in value if isinstance(value, list) else [value]:
            parts += [flag_of(name), str(element)]
    return shlex.join(parts)
