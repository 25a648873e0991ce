"""The baselines: cheap models that a GPT has to beat, trained on the same rows. `BASELINES` lists them.

    majority       the most frequent train label, with the label frequencies as probabilities
    length-only    numbers of characters and words, each as a spline ──► linear model: does the length give it away?
    tfidf-logreg   TF-IDF of words (1-2 grams) ──► linear model
    char-ngrams    TF-IDF of character n-grams inside words (2-5) ──► linear model, or a linear SVM

A single-label task gets one multinomial model, a multi-label task one model for each label against the rest, with
thresholds fitted on validation as the GPT's are. To add a baseline, add an entry to `BASELINES`.

What was measured (accuracy on test; words / characters by logistic regression): the chapter's SMS split 96.7 / 97.3 %,
all SMS messages without their duplicates 98.7 / 99.1 %, TREC 89.2 / 84.8 %.

Time is bounded: at most 20 million characters of train are read (from the start of each text; a note says so), 100,000
n-grams are kept, and `linear_models.py` bounds the fit. Measured with 100,000 rows of 280 characters and 150 labels:
two minutes of one core for each model, 1.3 GB in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DataError, one_of
from lasttoken.data.label_tables import label_counts, truth_of
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.linear_models import CannotFitError, LinearModel, Probabilities, fitted_features

if TYPE_CHECKING:
    from lasttoken.data.files import Examples
    from lasttoken.data.splitting.splits import Splits
    from lasttoken.evaluation.tasks.task import SplitMetrics, Task, Truth

MAX_CHARACTERS = 20_000_000  # of train, in all
MAX_NGRAMS = 100_000


class LabelledTexts(NamedTuple):
    """N texts and their truth, label ids [N] or bool [N, K]."""

    texts: Sequence[str]
    truth: Truth


@dataclass(frozen=True)
class FitInput:
    """What a baseline is fitted to."""

    task: Task
    train: LabelledTexts
    validation: LabelledTexts | None
    seed: int


class FittedBaseline(Protocol):
    """A fitted baseline."""

    notes: list[str]

    def predict(self, texts: Sequence[str]) -> Probabilities:
        """The scores of N texts."""


@dataclass(frozen=True)
class BaselineEntry:
    """One baseline: its name, how it is described, and how it is fitted.

    `fit` raises CannotFitError where the rows do not allow the baseline; None: it is measured elsewhere.
    """

    name: str
    words: str  # a noun phrase for sentences about a comparison
    behavior: str  # the rest of a sentence that begins with the name
    fit: Callable[[FitInput], FittedBaseline] | None


@dataclass(frozen=True)
class Baseline:
    """The metrics and predictions of one baseline by split, and what a reader must know about them.

    `metrics` is empty when the baseline could not be fitted; `note` then says why.
    """

    metrics: Mapping[str, SplitMetrics] = field(default_factory=dict)
    predicted: Mapping[str, Truth] = field(default_factory=dict)
    predict_s: float = 0.0  # of all rows of all splits
    note: str | None = None


@dataclass
class _Majority:
    """The label frequencies of train as the probabilities of every text."""

    frequencies: NDArray[np.float64]  # [K]
    notes: list[str] = field(default_factory=list)

    def predict(self, texts: Sequence[str]) -> Probabilities:
        probs = np.tile(self.frequencies, (len(texts), 1))
        with np.errstate(divide="ignore"):
            return Probabilities(np.log(probs), probs)


@dataclass
class LinearBaseline:
    """A vectorizer and a linear model on its features."""

    vectorizer: Any
    max_characters: int | None  # read of each text
    model: LinearModel
    notes: list[str]

    def predict(self, texts: Sequence[str]) -> Probabilities:
        """The scores of N texts."""
        return self.model.predict(self.vectorizer.transform(cut_texts(texts, self.max_characters)))


class LengthFeatures:
    """A vectorizer: the numbers of characters and of words of a text, each as a spline."""

    def __init__(self) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import SplineTransformer, StandardScaler

        self._splines = make_pipeline(StandardScaler(), SplineTransformer(n_knots=6, knots="quantile"))

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit to the texts; their features [N, F]."""
        return self._splines.fit_transform(self._counts(texts))

    def transform(self, texts: Sequence[str]) -> Any:
        """The features [N, F] of texts."""
        return self._splines.transform(self._counts(texts))

    def _counts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.log1p(np.array([(len(text), len(text.split())) for text in texts], dtype=np.float64).reshape(-1, 2))


def word_ngrams() -> Any:
    """A vectorizer: TF-IDF of words and pairs of words."""
    return _tfidf(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")


def character_ngrams() -> Any:
    """A vectorizer: TF-IDF of character n-grams inside words."""
    return _tfidf(analyzer="char_wb", ngram_range=(2, 5))


def _tfidf(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(**options, sublinear_tf=True, max_features=MAX_NGRAMS, dtype=np.float32)


def fit_majority(fit_input: FitInput) -> _Majority:
    """The label frequencies."""
    return _Majority(fit_input.task.label_frequencies(fit_input.train.truth))


def fit_linear(
    make_vectorizer: Callable[[], Any], fit_input: FitInput, *, cuts: bool = True, tries_svm: bool = False
) -> LinearBaseline:
    """A linear model on a vectorizer's features.

    `cuts`: long texts are cut to MAX_CHARACTERS in all. `tries_svm`: where a single-label task has validation rows,
    a linear SVM takes the place of logistic regression if it is better there.

    Raises:
        CannotFitError: there is nothing to learn from these rows.
    """
    texts, truth = fit_input.train
    max_characters = longest_affordable(texts) if cuts else None
    vectorizer = make_vectorizer()
    features = fitted_features(vectorizer, cut_texts(texts, max_characters))
    held_out = fit_input.validation

    def validation() -> tuple[Any, Any]:
        assert held_out is not None
        return vectorizer.transform(cut_texts(held_out.texts, max_characters)), held_out.truth

    model = fit_input.task.fit_linear(features, truth, fit_input.seed, validation if tries_svm and held_out else None)
    cut = [f"only the first {max_characters:,} characters of each text were read"] if max_characters else []
    return LinearBaseline(vectorizer, max_characters, model, [*cut, *model.notes])


BASELINES = {
    entry.name: entry
    for entry in (
        BaselineEntry(
            "majority",
            "always predicting the most frequent label",
            "always predicts the most frequent label",
            fit_majority,
        ),
        BaselineEntry(
            "length-only",
            "the length of the text alone",
            "sees only the length of a text",
            partial(fit_linear, LengthFeatures, cuts=False),
        ),
        BaselineEntry(
            "tfidf-logreg",
            "a bag of words",
            "is logistic regression on words and pairs of words",
            partial(fit_linear, word_ngrams),
        ),
        BaselineEntry(
            "char-ngrams",
            "character n-grams",
            "is logistic regression on 2 to 5 characters, or a linear SVM where a note says so",
            partial(fit_linear, character_ngrams, tries_svm=True),
        ),
        # runs/zero_shot.py measures it
        BaselineEntry("ask", "the backbone's zero-shot answers", "asks the untrained backbone", None),
    )
}


def baseline_names() -> tuple[str, ...]:
    """The names of the baselines that are fitted in every run."""
    return tuple(entry.name for entry in BASELINES.values() if entry.fit is not None)


def fit_baselines(
    task: Task, splits: Splits, seed: int, fitted: Mapping[str, FittedBaseline] | None = None
) -> dict[str, Baseline]:
    """The baselines, fitted to train and measured on the other splits; see `run_baselines`."""
    rows = {
        name: LabelledTexts(examples.texts, _truth(task, examples, name)) for name, examples in splits.named().items()
    }
    return run_baselines(task, rows.pop("train"), rows, seed, fitted=fitted)


def _truth(task: Task, examples: Examples, split: str) -> Truth:
    try:
        return truth_of(examples, task.labels)
    except KeyError as error:
        unknown = next(label for label in label_counts(examples) if label not in task.labels)
        raise DataError(
            f"{split} has the label {unknown!r}, which is not one of {one_of(task.labels)}; fix the row"
        ) from error


def run_baselines(
    task: Task,
    train: LabelledTexts,
    splits: Mapping[str, LabelledTexts],
    seed: int,
    names: Sequence[str] | None = None,
    intervals: bool = True,
    fitted: Mapping[str, FittedBaseline] | None = None,
) -> dict[str, Baseline]:
    """Fit baselines to the train rows and measure them on each split.

    Args:
        task: with the K labels.
        train: the rows to fit to.
        splits: by name; on "validation", where it is given, thresholds are fitted and models are chosen.
        seed: of stochastic gradient descent.
        names: which baselines; None: `baseline_names`.
        intervals: see `Task.metrics`.
        fitted: baselines that are fitted already, to these rows, by name.

    Returns:
        A baseline for each name, in this order.

    Raises:
        DataError: no train rows.
    """
    if not train.texts:
        raise DataError("found no train rows to fit the baselines to; give at least one row with a label")
    fit_input = FitInput(task, train, splits.get("validation"), seed)
    chosen = baseline_names() if names is None else names
    known = fitted or {}
    return {name: _measured(BASELINES[name], fit_input, splits, intervals, known.get(name)) for name in chosen}


def _measured(
    entry: BaselineEntry,
    fit_input: FitInput,
    splits: Mapping[str, LabelledTexts],
    intervals: bool,
    model: FittedBaseline | None = None,
) -> Baseline:
    task = fit_input.task
    assert entry.fit is not None
    try:
        model = model or entry.fit(fit_input)
    except CannotFitError as reason:
        return Baseline(note=f"{entry.name} was not fitted: {reason}")
    started = time.perf_counter()
    scores = {name: model.predict(rows.texts) for name, rows in splits.items()}
    predict_s = time.perf_counter() - started
    decision = Decision()
    if scores:
        fitted_on = "validation" if "validation" in scores else next(iter(scores))
        decision = task.fit_decision(decision, scores[fitted_on].log_probs, splits[fitted_on].truth, auto=False)
    predicted = {name: task.decide(probabilities.log_probs, decision) for name, probabilities in scores.items()}
    metrics = {
        name: task.metrics(
            splits[name].truth, log_probs=log_probs, probs=probs, predicted=predicted[name], intervals=intervals
        )
        for name, (log_probs, probs) in scores.items()
    }
    return Baseline(metrics, predicted, predict_s, f"{entry.name}: {'; '.join(model.notes)}" if model.notes else None)


def metrics_of(baselines: Mapping[str, Baseline]) -> dict[str, dict[str, Any]]:
    """The metrics of each baseline on each split, as metrics.json holds them."""
    return {
        name: {split: metrics.to_json() for split, metrics in baseline.metrics.items()}
        for name, baseline in baselines.items()
    }


def longest_affordable(texts: Sequence[str]) -> int | None:
    """The largest cut, in characters, with which the texts stay within MAX_CHARACTERS; None: no cut is needed.

    With the lengths sorted, cutting at the i-th length leaves sum(lengths[:i]) + (N - i) × lengths[i] characters.
    """
    lengths = np.sort([len(text) for text in texts])
    if lengths.sum() <= MAX_CHARACTERS:
        return None
    before = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    left = np.arange(len(lengths), 0, -1)
    first_over = int(np.argmax(before + left * lengths > MAX_CHARACTERS))
    return max(1, int((MAX_CHARACTERS - before[first_over]) // left[first_over]))


def cut_texts(texts: Sequence[str], max_characters: int | None) -> Sequence[str]:
    """The texts, each cut to so many characters."""
    return texts if max_characters is None else [text[:max_characters] for text in texts]
