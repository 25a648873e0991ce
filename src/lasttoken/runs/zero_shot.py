"""Chapter 6's zero-shot try: ask the bare backbone, before any training, both ways.

prompt ─► 23 tokens written greedily ─► which answer stands in them first?      (the chapter's way)
       └► log P(answer | prompt) of each label's answer ─► the largest          (a real classifier)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lasttoken.backbone.generation import answer_log_probs, generate
from lasttoken.backbone.pretrained import Backbone
from lasttoken.classifier.evaluate import match_labels
from lasttoken.core.errors import SettingsError
from lasttoken.data.files import Examples
from lasttoken.evaluation.intervals import wilson_interval
from lasttoken.evaluation.metrics import Metrics, compute_metrics

PROMPT = "Is the following text 'spam'? Answer with 'yes' or 'no': '{text}'"
WRITTEN_TOKENS = 23  # as many as the chapter lets it write


@dataclass(frozen=True)
class ZeroShotAnswers:
    """How the backbone answered N questions."""

    scored: Metrics  # by log-probability
    n_answered: int  # texts whose continuation named an answer at all
    n_correct: int  # of those, and of N: the chapter's way
    predicted: list[str]  # by log-probability, one a text

    @property
    def written_ci95(self) -> tuple[float, float]:
        """The interval of the chapter's way's accuracy; no answer counts as wrong."""
        return wilson_interval(self.n_correct, self.scored.n)


def parse_answers(text: str) -> dict[str, str]:
    """The answer of each label.

    >>> parse_answers("spam=yes,ham=no")
    {'spam': 'yes', 'ham': 'no'}

    Raises:
        SettingsError: not of that form, or one label only.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    found = {
        label.strip(): answer.strip() for label, sign, answer in pairs if sign and label.strip() and answer.strip()
    }
    if len(found) != len(pairs) or len(found) < 2 or len({answer.lower() for answer in found.values()}) < len(found):
        raise SettingsError(
            f"--answers is {text!r}; write label=answer pairs with different answers, such as spam=yes,ham=no"
        )
    return found


def ask(
    backbone: Backbone,
    examples: Examples,
    answers: Mapping[str, str],
    prompt: str = PROMPT,
    progress: Callable[[int], None] | None = None,
    write: bool = True,
) -> ZeroShotAnswers:
    """Ask about every example. A text too long for the context is cut so that the question fits.

    `write=False` leaves out the chapter's way, which takes most of the time: nothing is written, none answered.

    Raises:
        SettingsError: a prompt without {text}, or longer than the context by itself.
        DataError: a label that has no answer.
    """
    if "{text}" not in prompt:
        raise SettingsError(f"--prompt is {prompt!r}; it must hold {{text}} where the text belongs")
    labels = list(answers)
    label_ids = match_labels(examples, labels, lambda sentence: None)
    answer_ids = [backbone.tokenizer.encode(" " + answer) for answer in answers.values()]
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
    scored = compute_metrics(
        label_ids, labels, predicted_ids=[max(range(len(labels)), key=row.__getitem__) for row in scores]
    )
    predicted = [labels[max(range(len(labels)), key=row.__getitem__)] for row in scores]
    return ZeroShotAnswers(scored, n_answered, n_correct, predicted)


def _question(backbone: Backbone, prompt: str, text: str, room: int) -> list[int]:
    """The token ids of the question, its text cut at the end until `room` more tokens fit the context."""
    limit = backbone.config.n_positions - room
    ids = backbone.tokenizer.encode(prompt.replace("{text}", text))
    while len(ids) > limit:
        if not text:
            raise SettingsError(
                f"--prompt takes {len(ids)} tokens, and the backbone has {backbone.config.n_positions} "
                "positions; shorten it"
            )
        text_ids = backbone.tokenizer.encode(text)
        shorter = backbone.tokenizer.decode(text_ids[: max(len(text_ids) - (len(ids) - limit), 0)])
        text = shorter.rstrip("\ufffd")  # half a character, which would take more tokens than it saved
        ids = backbone.tokenizer.encode(prompt.replace("{text}", text))
    return ids


def first_answer(written: str, answers: list[str]) -> int | None:
    """Which answer stands first in a continuation, or None.

    Only whole words count: "know" and "not" are no "no".

    >>> first_answer(" I know. No, yes", ["yes", "no"])
    1
    """
    found = [re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", written, re.IGNORECASE) for answer in answers]
    there = {at: match.start() for at, match in enumerate(found) if match}
    return min(there, key=there.__getitem__) if there else None
