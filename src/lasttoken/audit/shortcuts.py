"""Shortcuts to the label: the length of a text, or a single word, that predicts the label without any understanding.

    half of the components ─► choose the best rule        the other half ─► measure it

The rule "has the word w, so the label is k" is measured by balanced accuracy, the mean of the fraction of k with w and
the fraction of the other rows without w: 50 % by chance. Length is measured by a small decision tree on the numbers of
characters and words, over all labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]

MOST_ROWS = 100_000  # sampled; bounds time and memory
LEAST_ROWS = 20  # of a label in each half, to measure its shortcuts
LEAST_TEXTS = 5  # with a word, to consider the word
STRONG, DECISIVE = 0.5, 0.9  # skill from which on a shortcut is a note; a finding
TOKEN = re.compile(r"\w+|[^\w\s]")
NUMBER = re.compile(r"\b\d+\b")
A_NUMBER = "0"  # stands for every number


@dataclass(frozen=True)
class Shortcut:
    """How well a rule predicts the label on rows that it was not chosen on: `balanced_accuracy` against `chance`.

    For a word: the label it predicts, and the fractions of that label's rows and of all other rows that have it.
    """

    balanced_accuracy: float
    chance: float
    word: str | None = None  # None: the rule uses the length
    label: str | None = None
    share_with: float = 0.0
    share_elsewhere: float = 0.0

    @property
    def skill(self) -> float:
        """0 for chance, 1 for certainty."""
        return (self.balanced_accuracy - self.chance) / (1 - self.chance)

    @property
    def is_strong(self) -> bool:
        """Whether it is worth a note."""
        return self.skill >= STRONG

    @property
    def is_decisive(self) -> bool:
        """Whether it nearly determines the label."""
        return self.skill >= DECISIVE

    @property
    def shown(self) -> str:
        """The word as a message shows it."""
        return "a number" if self.word == A_NUMBER else repr(self.word)

    def sentence(self) -> str:
        """The shortcut as a sentence."""
        judged = f"balanced accuracy {self.balanced_accuracy:.0%}, {self.chance:.0%} by chance"
        if self.word is None:
            return f"the length of a text alone predicts its label with {judged}"
        return (
            f"{self.shown} occurs in {self.share_with:.0%} of {self.label!r} and in {self.share_elsewhere:.0%} of all"
            f" other rows: this alone predicts {self.label!r} with {judged}"
        )


def find_shortcuts(texts: Sequence[str], labels: Sequence[str], components: Indices) -> tuple[Shortcut, ...]:
    """The shortcut by length, then the best word for each label, strongest first; labels with too few rows have none.

    Rows of one component are in the same half, so that a repeated text is no evidence.
    """
    rows = np.flatnonzero(
        [bool(text.strip()) and bool(label.strip()) for text, label in zip(texts, labels, strict=True)]
    )
    rng = np.random.default_rng(0)
    if len(rows) > MOST_ROWS:
        rows = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
    names, label_ids = np.unique([labels[row] for row in rows.tolist()], return_inverse=True)
    ids, component = np.unique(components[rows], return_inverse=True)
    chosen_on = (rng.random(len(ids)) < 0.5)[component]
    halves = (np.flatnonzero(chosen_on), np.flatnonzero(~chosen_on))
    counts = np.array([np.bincount(label_ids[half], minlength=len(names)) for half in halves])
    enough: NDArray[np.bool_] = counts.min(axis=0, initial=LEAST_ROWS) >= LEAST_ROWS
    if enough.sum() < 2:
        return ()
    kept = [texts[row] for row in rows.tolist()]
    words = _best_words(kept, label_ids.astype(np.intp), [str(name) for name in names], enough, halves)
    frequent = (half[enough[label_ids[half]]] for half in halves)
    return (
        _by_length(kept, label_ids.astype(np.intp), *frequent),
        *sorted(words, key=lambda shortcut: -shortcut.skill),
    )


def _by_length(texts: Sequence[str], label_ids: Indices, chosen_on: Indices, judged_on: Indices) -> Shortcut:
    from sklearn.tree import DecisionTreeClassifier

    sizes = np.array([[len(text), text.count(" ")] for text in texts], np.float32)
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, class_weight="balanced", random_state=0)
    right = tree.fit(sizes[chosen_on], label_ids[chosen_on]).predict(sizes[judged_on]) == label_ids[judged_on]
    present = np.unique(label_ids[judged_on])
    recalls = [right[label_ids[judged_on] == label_id].mean() for label_id in present]
    return Shortcut(float(np.mean(recalls)), 1 / len(present))


def _best_words(
    texts: Sequence[str],
    label_ids: Indices,
    labels: list[str],
    enough: NDArray[np.bool_],
    halves: tuple[Indices, Indices],
) -> list[Shortcut]:
    """The best word for each label, chosen on one half, measured on the other, counted on both."""
    has, words = _presence(texts)
    if not words:
        return []
    n_rows = np.array([np.bincount(label_ids[half], minlength=len(labels)) for half in halves])  # (2, K)
    n_with = np.array([_count_by_label(has[half], label_ids[half], len(labels)) for half in halves])  # (2, K, words)
    shortcuts = []
    for label_id in np.flatnonzero(enough).tolist():
        rest = n_with.sum(axis=1) - n_with[:, label_id]
        share = n_with[:, label_id] / n_rows[:, label_id, None]
        elsewhere = rest / (n_rows.sum(axis=1) - n_rows[:, label_id])[:, None]
        balanced = (share + 1 - elsewhere) / 2
        best = int(balanced[0].argmax())
        n_here, n_all = n_rows[:, label_id].sum(), n_rows.sum()
        shares = float(n_with[:, label_id, best].sum() / n_here), float(rest[:, best].sum() / (n_all - n_here))
        shortcuts.append(Shortcut(float(balanced[1, best]), 0.5, words[best], labels[label_id], *shares))
    return shortcuts


def _presence(texts: Sequence[str]) -> tuple[Any, list[str]]:
    """Which text has which word, sparse (N, words), and the words that at least LEAST_TEXTS texts have."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, analyzer=_tokens, dtype=np.int32)
    has = counter.fit_transform(texts)
    common = np.flatnonzero(np.asarray(has.sum(axis=0)).ravel() >= LEAST_TEXTS)
    return has[:, common], counter.get_feature_names_out()[common].tolist()


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(NUMBER.sub(A_NUMBER, text.casefold()))


def _count_by_label(has: Any, label_ids: Indices, n_labels: int) -> NDArray[np.float64]:
    """The number of texts of each label that have each word, (K, words)."""
    from scipy.sparse import csr_matrix

    ones = np.ones(len(label_ids), np.int32)
    by_label = csr_matrix((ones, (label_ids, np.arange(len(label_ids)))), shape=(n_labels, len(label_ids)))
    return np.asarray((by_label @ has).todense(), np.float64)
