"""Zero-shot classification as in chapter 6: the backbone is asked without any training, in two ways.

prompt ─► 23 tokens written greedily ─► which answer stands in them first?      (the chapter's way)
       └► log P(answer | prompt) of each label's answer ─► the largest          (a real classifier)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.generation import answer_log_probs, generate
from lasttoken.backbone.pretrained import Backbone, load_backbone
from lasttoken.classifier.evaluate import match_labels
from lasttoken.core.config import Settings
from lasttoken.core.errors import DataError, SettingsError, one_of
from lasttoken.core.spelling import match_label, visible
from lasttoken.data.files import Examples
from lasttoken.evaluation.baselines import Baseline
from lasttoken.evaluation.intervals import wilson_interval
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.training.prepare import Prepared

PROMPT = "Is the following text 'spam'? Answer with 'yes' or 'no': '{text}'"
WRITTEN_TOKENS = 23  # the chapter generates as many


@dataclass(frozen=True)
class ZeroShotAnswers:
    """The backbone's answers to N questions."""

    scored: Metrics  # by log-probability
    n_answered: int  # texts whose continuation named an answer at all
    n_correct: int  # of those, and of N: the chapter's way
    predicted: list[str]  # by log-probability, one a text

    @property
    def written_ci95(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy of generated answers; no answer counts as wrong."""
        return wilson_interval(self.n_correct, self.scored.n)


def parse_answers(text: str) -> dict[str, str]:
    """The answer of each label.

    >>> parse_answers("spam=yes,ham=no")
    {'spam': 'yes', 'ham': 'no'}

    Raises:
        SettingsError: another form, or a single label.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    answers = {
        label.strip(): answer.strip() for label, sign, answer in pairs if sign and label.strip() and answer.strip()
    }
    n_different = len({answer.lower() for answer in answers.values()})
    if len(answers) != len(pairs) or len(answers) < 2 or n_different < len(answers):
        raise SettingsError(
            f"--answers is {text!r}; write label=answer pairs with different answers, such as spam=yes,ham=no"
        )
    return answers


def ask(
    backbone: Backbone,
    examples: Examples,
    answers: Mapping[str, str],
    prompt: str = PROMPT,
    progress: Callable[[int], None] | None = None,
    write: bool = True,
) -> ZeroShotAnswers:
    """Ask about every example. Texts that are too long for the context are truncated, so that the question fits.

    `write=False` leaves out the generated answers, which take most of the time; `n_answered` is 0 then.

    Raises:
        SettingsError: a prompt without {text}, or longer than the context by itself.
        DataError: a label that has no answer.
    """
    if "{text}" not in prompt:
        raise SettingsError(f"--prompt is {prompt!r}; it must contain {{text}}, which is replaced by the text")
    labels = list(answers)
    label_ids = _label_ids(examples, labels)
    answer_ids = [_answer_ids(backbone, answer) for answer in answers.values()]
    scores, n_answered, n_correct = [], 0, 0
    for text, label_id in zip(examples.texts, label_ids, strict=True):
        ids = _question(backbone, prompt, text, max(WRITTEN_TOKENS, *map(len, answer_ids)))
        scores.append(answer_log_probs(backbone.decoder, ids, answer_ids))
        if write:
            written = backbone.tokenizer.decode(
                generate(backbone.decoder, ids, max_new_tokens=WRITTEN_TOKENS).token_ids
            )
            named = first_answer(written, list(answers.values()))
            n_answered += named is not None
            n_correct += bool(named == label_id)  # label_id is numpy's, and n_correct goes into JSON
        if progress:
            progress(1)
    predicted_ids = [max(range(len(labels)), key=row.__getitem__) for row in scores]
    metrics = compute_metrics(label_ids, labels, predicted_ids=predicted_ids)
    return ZeroShotAnswers(metrics, n_answered, n_correct, [labels[label_id] for label_id in predicted_ids])


def _label_ids(examples: Examples, labels: list[str]) -> NDArray[Any]:
    """The index of each example's label among the labels that have an answer.

    Raises:
        DataError: a label without an answer, or examples without labels.
    """
    try:
        return match_labels(examples, SingleLabel(tuple(labels)), lambda sentence: None)
    except DataError as error:
        for row, label in enumerate(examples.labels or ()):
            if match_label(label, labels) is None:
                raise DataError(
                    f"--answers has no answer for label {visible(label)}, which row {examples.number_of(row)} of "
                    f"{examples.source or 'the examples'} has; it has answers for {one_of(labels)}: add one, or remove "
                    "the rows with this label"
                ) from error
        raise


def _question(backbone: Backbone, prompt: str, text: str, room: int) -> list[int]:
    """The token ids of the question; its text is truncated until `room` more tokens fit the context."""
    limit = backbone.config.n_positions - room
    ids = backbone.prompt_ids(prompt.replace("{text}", text))
    while len(ids) > limit:
        if not text:
            raise SettingsError(
                f"--prompt takes {len(ids)} tokens, and the backbone has {backbone.config.n_positions} "
                "positions; shorten it"
            )
        text_ids = backbone.tokenizer.encode(text)
        shorter = backbone.tokenizer.decode(text_ids[: max(len(text_ids) - (len(ids) - limit), 0)])
        text = shorter.rstrip("\ufffd")  # half a character, which would take more tokens than it saved
        ids = backbone.prompt_ids(prompt.replace("{text}", text))
    return ids


def _answer_ids(backbone: Backbone, answer: str) -> list[int]:
    """The token ids of an answer after a question and a space.

    Some tokenizers write a space before every text, so they would write two before " yes" alone.
    """
    question = backbone.tokenizer.encode("?")
    ids = backbone.tokenizer.encode(f"? {answer}")
    return ids[len(question) :] if ids[: len(question)] == question else backbone.tokenizer.encode(" " + answer)


def first_answer(written: str, answers: list[str]) -> int | None:
    """The index of the answer that comes first in a continuation, or None.

    Only whole words count: "know" and "not" do not contain the answer "no".

    >>> first_answer(" I know. No, yes", ["yes", "no"])
    1
    """
    matches = [re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", written, re.IGNORECASE) for answer in answers]
    positions = {index: match.start() for index, match in enumerate(matches) if match}
    return min(positions, key=positions.__getitem__) if positions else None


def zero_shot_baseline(prepared: Prepared, settings: Settings, offline: bool) -> dict[str, Baseline]:
    """The untrained backbone as a baseline on the headline split; empty without `settings.answers`."""
    if settings.answers is None:
        return {}
    split = prepared.splits.headline
    backbone = load_backbone(settings.backbone, offline)
    answers = parse_answers(settings.answers)
    started = time.perf_counter()
    answered = ask(
        backbone, prepared.splits.named()[split], {label: answers[label] for label in prepared.labels}, write=False
    )
    seconds = time.perf_counter() - started
    ids = {label: label_id for label_id, label in enumerate(prepared.labels)}
    predicted = np.array([ids[label] for label in answered.predicted], dtype=np.int64)
    note = "ask: the untrained backbone's more probable answer to the question of chapter 6"
    return {"ask": Baseline({split: answered.scored}, {split: predicted}, seconds, note)}
