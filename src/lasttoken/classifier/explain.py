"""Which words moved a decision: a value for each word, and how far the sum of the values is from the total.

    f(text) = log p(label) - log(1 - p(label))        the log-odds of one label, in nats (against all others together)

    integrated gradients   value of token t = (x_t - b_t) · ∫₀¹ ∂f/∂x_t (b + α(x - b)) dα    x: input embeddings of the
                           text, b: the embedding of the end-of-text token at every position of the text's own tokens;
                           positions, the backbone's frame and padding stay
    occlusion              value of word w = f(text) - f(text without w)

    gap = |Σ values - (f(text) - base)|               base: f of b, or of the empty text

Integrated gradients add up to the total, apart from the error of the numerical integral: a large gap means too few
steps. The values of occlusion need not add up: their gap measures how much the words act together.
Sources: Sundararajan, Taly, Yan 2017, *Axiomatic Attribution for Deep Networks*; Zeiler, Fergus 2014, *Visualizing
and Understanding Convolutional Networks*, section 4.2 (occlusion).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.encoding import kept_tokens
from lasttoken.classifier.predict import Predictor
from lasttoken.core.device import side_by_side
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.core.spelling import match_label

GRADIENTS, OCCLUSION = "integrated-gradients", "occlusion"
METHODS = (GRADIENTS, OCCLUSION)
FIRST_STEPS, MOST_STEPS = 16, 256  # points of the integral: doubled until the gap is small
SMALL_GAP = 0.05  # of f(text) - base, or of half a nat where that is less
MOST_VARIANTS = 256  # texts that occlusion classifies; in a longer text, groups of neighbouring words are left out
UNSPACED = "\u2e80-\u9fff\uf900-\ufaff"  # scripts written without spaces: each character counts as a word
WORD = re.compile(rf"[{UNSPACED}]\s*|[^\s{UNSPACED}]+\s*|\s+")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Word:
    """A word with the white space that follows it; the words of a text, joined, are the text."""

    text: str
    start: int  # character offsets in the text
    end: int
    value: float  # nats for the label; negative: against it
    read: bool  # False: it was truncated, and its value is 0


@dataclass(frozen=True)
class Explanation:
    """The effect of each word of a text on the log-odds of a label."""

    text: str
    label: str
    score: float  # probability of the label
    method: str
    words: tuple[Word, ...]
    total: float  # f(text), log-odds of the label
    base: float  # f without the text
    gap: float  # |Σ values - (total - base)|
    steps: int  # points of the integral, or texts classified


def explain(
    predictor: Predictor,
    text: str,
    *,
    label: str | None = None,
    method: str | None = None,
    steps: int = MOST_STEPS,
    say: Say = lambda sentence: None,
    between: Callable[[], None] = lambda: None,
) -> Explanation:
    """Explain the label that is predicted, or `label`, by `method`.

    `method` None means integrated gradients, or occlusion if the trunk computes in 8 bits or the classifier contains
    n-grams, which have no gradients.

    `steps` is the maximum number of points of the integral. `between` is called between two passes through the network;
    an exception that it raises ends the explanation.

    Raises:
        SettingsError: the label or method is unknown, or gradients are asked of a trunk that computes in 8 bits or of a
            classifier that contains n-grams.
    """
    labels = predictor.labels
    known = None if label is None else match_label(label, labels)
    if known is None and label is not None:
        raise SettingsError(f"--label is {label!r}, which the classifier does not know; use one of {one_of(labels)}")
    method, blend = _choose_method(method, predictor, say), predictor.classifier.config.blend
    log_probs = predictor.log_probs(predictor.encode([text]))[0]
    label_id = int(log_probs.argmax()) if known is None else labels.index(known)
    spans = [match.span() for match in WORD.finditer(text)]
    word_ids = _word_ids(predictor, text, spans) if blend is None else np.arange(len(spans))  # n-grams see all words
    if method == GRADIENTS:
        values, total, base, n = _by_gradients(predictor, text, label_id, len(spans), word_ids, steps, between)
    else:
        values, total, base, n = _by_occlusion(predictor, text, label_id, spans, word_ids, between)
    read = set(word_ids.tolist())
    words = tuple(
        Word(text[start:end], start, end, float(values[word_id]), word_id in read)
        for word_id, (start, end) in enumerate(spans)
    )
    gap = abs(float(values.sum()) - (total - base))
    return Explanation(text, labels[label_id], float(np.exp(log_probs[label_id])), method, words, total, base, gap, n)


def occlusion_passes(text: str) -> int:
    """How many texts of about this length are classified to explain it by occlusion, at most."""
    return min(sum(1 for _ in WORD.finditer(text)), MOST_VARIANTS) + 2


def _choose_method(method: str | None, predictor: Predictor, say: Say) -> str:
    in_8_bits = any(getattr(module, "int8", None) is not None for module in predictor.classifier.modules())
    if method not in (None, *METHODS):
        raise SettingsError(f"--method is {method!r}; use {' or '.join(METHODS)}")
    if method == GRADIENTS and in_8_bits:
        raise SettingsError(
            f"--method {GRADIENTS} needs gradients, which a trunk in 8 bits does not have; "
            f"use --method {OCCLUSION} or --precision float32"
        )
    blend = predictor.classifier.config.blend
    if method == GRADIENTS and blend is not None:
        raise SettingsError(
            f"--method {GRADIENTS} explains a GPT, and the classifier is {blend.in_words()}; use --method {OCCLUSION}"
        )
    if method is None and blend is not None:
        say(f"the classifier is {blend.in_words()}; the explanation uses {OCCLUSION}, which sees both")
        return OCCLUSION
    if method is None and in_8_bits:
        say(f"the trunk computes in 8 bits and has no gradients; the explanation uses {OCCLUSION}")
    # Gradients keep every block's intermediate results, and convert each matrix of a large trunk once more.
    return method or (OCCLUSION if in_8_bits or predictor.classifier.stays_mapped else GRADIENTS)


def _word_ids(predictor: Predictor, text: str, spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The index of the word of each token that is not truncated: the word that holds the token's last character."""
    config = predictor.classifier.config
    last = [max(end - 1, start) for start, end in predictor.tokenizer.spans(text)]
    last = last[kept_tokens(len(last), config.max_length - config.n_frame, config.truncate)]
    return np.searchsorted([start for start, _ in spans], last, side="right") - 1


def _by_gradients(
    predictor: Predictor,
    text: str,
    label_id: int,
    n_words: int,
    word_ids: NDArray[np.int64],
    steps: int,
    between: Callable[[], None],
) -> tuple[NDArray[np.float64], float, float, int]:
    token_ids = torch.from_numpy(predictor.encode([text]).token_ids).to(predictor.device.torch_device)
    path = _Path(predictor, token_ids, len(word_ids), label_id, between)
    total, base = path.ends()
    n = min(FIRST_STEPS, steps)
    while True:
        token_values = path.integrate(n)
        gap = abs(float(token_values.sum()) - (total - base))
        if gap <= SMALL_GAP * max(abs(total - base), 0.5) or n >= steps:
            return np.bincount(word_ids, token_values, n_words).astype(np.float64), total, base, n
        n = min(2 * n, steps)


class _Path:
    """The straight line from the baseline to a text, in the space of input embeddings."""

    def __init__(
        self,
        predictor: Predictor,
        token_ids: Tensor,
        n_own: int,
        label_id: int,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """`n_own`: the number of the text's own tokens; the frame around them and padding are the same at every point.

        The frame's tokens have no characters, so nothing is attributed to them.
        """
        self.predictor, self.label_id, self.n_own, self.between = predictor, label_id, n_own, between
        decoder, config = predictor.classifier.decoder, predictor.classifier.config
        self.own = slice(len(config.prefix_ids), len(config.prefix_ids) + n_own)
        with torch.no_grad():
            packing = Packing([len(token_ids)], token_ids.device)
            self.text = decoder.embed(token_ids, packing.positions)
            neutral = token_ids.clone()
            neutral[self.own] = config.end_of_text_id
            self.baseline = decoder.embed(neutral, packing.positions)

    def ends(self) -> tuple[float, float]:
        """f(text) and f(baseline)."""
        with torch.no_grad():
            total, base = self._log_odds(torch.stack((self.text, self.baseline))).tolist()
        return total, base

    def _log_odds(self, embedded: Tensor) -> Tensor:
        """[B, T, C] -> [B]."""
        n, length, _ = embedded.shape
        logits = self.predictor.classifier.read_embedded(embedded.flatten(0, 1), Packing([length] * n, embedded.device))
        return self.predictor.classifier.config.task.log_odds(logits, self.label_id)

    def integrate(self, n: int) -> NDArray[np.float64]:
        """The integral by Gauss-Legendre quadrature with n points: a value for each token of the text, [n_own]."""
        points, weights = np.polynomial.legendre.leggauss(n)
        difference = self.text - self.baseline
        total = np.zeros(self.n_own)
        # At least two batches, so that one thread computes each: several threads would sum gradients in another order.
        batch_size = max(min(self.predictor.device.token_budget // len(difference), n // 2), 1)

        def gradients_at(part: slice) -> NDArray[np.float64]:
            self.between()
            alphas = torch.from_numpy((points[part] + 1) / 2).to(difference)
            x = (self.baseline + alphas[:, None, None] * difference).requires_grad_()
            (gradient,) = torch.autograd.grad(self._log_odds(x).sum(), x)
            return (gradient * difference).sum(-1)[:, self.own].double().cpu().numpy()

        parts = [slice(start, start + batch_size) for start in range(0, n, batch_size)]
        for part, values in side_by_side(gradients_at, parts, self.text.device):
            total += weights[part] / 2 @ values
        return total


def _by_occlusion(
    predictor: Predictor,
    text: str,
    label_id: int,
    spans: Sequence[tuple[int, int]],
    word_ids: NDArray[np.int64],
    between: Callable[[], None],
) -> tuple[NDArray[np.float64], float, float, int]:
    values = np.zeros(len(spans))
    read = np.unique(word_ids)
    groups = np.array_split(read, min(len(read), MOST_VARIANTS)) if len(read) else []
    first, last = (spans[read[0]][0], spans[read[-1]][1]) if len(read) else (0, 0)
    variants = [text[first : spans[group[0]][0]] + text[spans[group[-1]][1] : last] for group in groups]
    logits = predictor.logits(predictor.encode([text, "", *variants]), lambda n_rows: between())
    task = predictor.classifier.config.task
    total, base, *without = task.log_odds(torch.from_numpy(logits).double(), label_id).tolist()
    for group, log_odds in zip(groups, without, strict=True):
        values[group] = (total - log_odds) / len(group)
    return values, total, base, len(variants)
