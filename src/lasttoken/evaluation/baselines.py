"""The cheap models that a GPT has to beat, trained on the same rows: majority, length, words, character n-grams.

    majority       the most frequent train label, with the label frequencies as probabilities
    length-only    characters and words, each as a spline ──► logistic regression: is the label a matter of length?
    tfidf-logreg   TF-IDF of words (1-2 grams) ──► logistic regression
    char-ngrams    TF-IDF of character n-grams inside words (2-5) ──► logistic regression or a linear support vector
                   machine, whichever is right more often on validation; the machine's scores become probabilities by
                   one temperature, fitted there too

What was measured (accuracy on test; words / characters by logistic regression): the chapter's SMS split 96.7 / 97.3 %,
all SMS messages without their duplicates 98.7 / 99.1 %, TREC 89.2 / 84.8 %.
C = 30: of 3, 10, 30 and 100 none is best everywhere by 3-fold cross-validation on the train rows of SMS and TREC,
and 30 is within 0.6 points of the best. By gradient descent 10 was better on GoEmotions (57.4 / 56.8 %; 30: 57.0 /
53.9 %).

Time is bounded. At most 20 million characters of train are read (from the start of each text; a cut is told in
the note), 100,000 n-grams are kept, and where non-zeros × labels pass 2e7 the same loss is minimised by stochastic
gradient descent, at most 10 epochs and 2e10 updates. Measured with 100,000 rows of 280 characters and 150 labels:
two minutes of one core a model, 1.3 GB in all.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from lasttoken.core.errors import DataError, one_of
from lasttoken.data.label_tables import label_names, labels_of
from lasttoken.data.splits import Splits
from lasttoken.evaluation.calibration import fit_temperature
from lasttoken.evaluation.metrics import compute_metrics

if TYPE_CHECKING:
    from lasttoken.evaluation.task import SplitMetrics, Truth

MAX_CHARACTERS = 20_000_000  # of train, in all
MAX_NGRAMS = 100_000
MAX_EXACT = 2e7  # non-zeros × labels up to which L-BFGS takes seconds
MAX_UPDATES = 2e10  # non-zeros × labels × epochs of stochastic gradient descent, 0.2e9 a second
INVERSE_REGULARISATION = 30.0  # scikit-learn's C, for L-BFGS
INVERSE_REGULARISATION_SGD = 10.0  # the same, for many rows

VECTORIZERS: dict[str, dict[str, Any]] = {
    "tfidf-logreg": {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "char-ngrams": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}
NAMES = ("majority", "length-only", *VECTORIZERS)


@dataclass(frozen=True)
class Baseline:
    """One cheap model: its metrics by split, its seconds, and what a reader of them must know.

    `metrics` is empty when the model could not be fitted; `note` then says why.
    """

    metrics: Mapping[str, SplitMetrics] = field(default_factory=dict)
    predicted: Mapping[str, Truth] = field(default_factory=dict)  # label_id of each row [N], or [N, K], by split
    fit_s: float = 0.0
    predict_s: float = 0.0  # of all rows of all splits
    note: str | None = None


class _Model(Protocol):
    """A fitted baseline."""

    note: str | None

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-probabilities [N, K]."""


@dataclass
class _Majority:
    """Label frequencies in train, given as the probabilities of every text."""

    log_probs: NDArray[np.float64]  # [K]
    note: str | None = None

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.tile(self.log_probs, (len(texts), 1))


@dataclass
class _Linear:
    """Features of a text, and a linear model on them, both scikit-learn's."""

    vectorizer: Any
    linear: Any
    n_labels: int
    longest: int | None  # characters read of a text
    note: str | None = None
    temperature: float = 1.0  # of a model that gives scores

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-probabilities [N, K]; labels that train lacks have probability 0."""
        log_probs = np.full((len(texts), self.n_labels), -np.inf)
        features = self.vectorizer.transform(cut_texts(texts, self.longest))
        with np.errstate(divide="ignore"):
            log_probs[:, self.linear.classes_] = self._log_probs(features)
        return log_probs

    def _log_probs(self, features: Any) -> NDArray[np.float64]:
        if hasattr(self.linear, "predict_proba"):
            return np.asarray(np.log(self.linear.predict_proba(features)))
        return np.asarray(log_softmax(scores_of(self.linear, features) / self.temperature, axis=1))


class Lengths:
    """Texts as their numbers of characters and of words, each as a spline; what a vectorizer is to words."""

    def __init__(self) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import SplineTransformer, StandardScaler

        self._splines = make_pipeline(StandardScaler(), SplineTransformer(n_knots=6, knots="quantile"))

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit, then as `transform`."""
        return self._splines.fit_transform(self._counts(texts))

    def transform(self, texts: Sequence[str]) -> Any:
        """Features [N, F] of texts."""
        return self._splines.transform(self._counts(texts))

    def _counts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.log1p(np.array([(len(text), len(text.split())) for text in texts], dtype=np.float64).reshape(-1, 2))


class CannotFitError(Exception):
    """A baseline that these rows do not allow; its text is the reason."""


def baselines_of(splits: Splits, seed: int) -> dict[str, Baseline]:
    """The baselines of one label a text, trained on train and measured on the other splits; see `run_baselines`."""
    named = splits.named()
    rows = {name: (examples.texts, labels_of(examples)) for name, examples in named.items() if name != "train"}
    return run_baselines(splits.train.texts, labels_of(splits.train), rows, label_names(splits.train), seed)


def metrics_of(baselines: Mapping[str, Baseline]) -> dict[str, dict[str, Any]]:
    """The metrics of each baseline on each split, as metrics.json holds them."""
    return {
        name: {split: metrics.to_json() for split, metrics in baseline.metrics.items()}
        for name, baseline in baselines.items()
    }


def run_baselines(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    splits: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    labels: Sequence[str],
    seed: int,
    names: Sequence[str] = NAMES,
    intervals: bool = True,
) -> dict[str, Baseline]:
    """Train the baselines on the train rows and measure them on each split.

    Args:
        train_texts, train_labels: N texts and their label names.
        splits: name → (texts, label names); by "validation", where it is there, the characters' model is chosen.
        labels: the K names of the schema, in its order.
        seed: of stochastic gradient descent.
        names: which of `NAMES`.
        intervals: see `compute_metrics`.

    Returns:
        A baseline for each name, in this order.

    Raises:
        DataError: no train rows, or a label that is not one of `labels`.
    """
    if not train_texts:
        raise DataError("found no train rows to fit the baselines on; give at least one row with a label")
    ids = {label: i for i, label in enumerate(labels)}
    truth = {name: _label_ids(split_labels, ids, name) for name, (_, split_labels) in splits.items()}
    label_ids = _label_ids(train_labels, ids, "train")
    validation = (splits["validation"][0], truth["validation"]) if "validation" in splits else None
    found = {}
    for name in names:
        start = time.perf_counter()
        try:
            model = _fit(name, train_texts, label_ids, len(labels), seed, validation)
        except CannotFitError as reason:
            found[name] = Baseline(fit_s=time.perf_counter() - start, note=f"{name} was not fitted: {reason}")
            continue
        fitted = time.perf_counter()
        log_probs = {split: model.predict(texts) for split, (texts, _) in splits.items()}
        predicted_s = time.perf_counter() - fitted
        metrics = {
            split: compute_metrics(truth[split], labels, log_probs=log_probs[split], intervals=intervals)
            for split in splits
        }
        predicted = {split: np.asarray(rows.argmax(1), dtype=np.int64) for split, rows in log_probs.items()}
        note = f"{name}: {model.note}" if model.note else None
        found[name] = Baseline(metrics, predicted, fitted - start, predicted_s, note)
    return found


def _label_ids(names: Sequence[str], ids: Mapping[str, int], split: str) -> NDArray[np.int64]:
    try:
        return np.array([ids[name] for name in names], dtype=np.int64)
    except KeyError as error:
        raise DataError(
            f"{split} has the label {error.args[0]!r}, which is not one of {one_of(ids)}; fix the row"
        ) from error


def _fit(
    name: str,
    texts: Sequence[str],
    label_ids: NDArray[np.int64],
    k: int,
    seed: int,
    validation: tuple[Sequence[str], NDArray[np.int64]] | None,
) -> _Model:
    if name == "majority":
        return _fit_majority(label_ids, k)
    if len(np.unique(label_ids)) < 2:
        raise CannotFitError("the train rows have one label only")
    if name == "length-only":
        lengths = Lengths()
        linear, trouble = _fit_weights(lengths.fit_transform(texts), label_ids, seed)
        return _Linear(lengths, linear, k, None, trouble)
    return _fit_ngrams(VECTORIZERS[name], texts, label_ids, k, seed, validation if name == "char-ngrams" else None)


def _fit_majority(label_ids: NDArray[np.int64], k: int) -> _Majority:
    with np.errstate(divide="ignore"):
        return _Majority(np.log(np.bincount(label_ids, minlength=k) / len(label_ids)))


def _fit_ngrams(
    options: Mapping[str, Any],
    texts: Sequence[str],
    label_ids: NDArray[np.int64],
    k: int,
    seed: int,
    validation: tuple[Sequence[str], NDArray[np.int64]] | None,
) -> _Linear:
    """A linear model of n-grams; with `validation` rows, the better of two there."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    longest = longest_affordable(texts)
    vectorizer = TfidfVectorizer(**options, sublinear_tf=True, max_features=MAX_NGRAMS, dtype=np.float32)
    features = fitted_features(vectorizer, cut_texts(texts, longest))
    linear, trouble = _fit_weights(features, label_ids, seed)
    cut = f"only the first {longest:,} characters of each text were read" if longest else None
    model = _Linear(vectorizer, linear, k, longest, "; ".join(filter(None, (cut, trouble))) or None)
    if validation is None or features.nnz * len(np.unique(label_ids)) > MAX_EXACT:
        return model
    rival = _fit_machine(replace(model), features, label_ids, seed, validation)
    right, rival_right = (int((one.predict(validation[0]).argmax(1) == validation[1]).sum()) for one in (model, rival))
    return rival if rival_right > right else model


def fitted_features(vectorizer: Any, texts: Sequence[str]) -> Any:
    """What a vectorizer, fitted to these texts, makes of them.

    Raises:
        CannotFitError: there is nothing in them that it counts.
    """
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise CannotFitError("the train texts hold nothing that it counts (no words)") from error


def _fit_machine(
    model: _Linear,
    features: Any,
    label_ids: NDArray[np.int64],
    seed: int,
    validation: tuple[Sequence[str], NDArray[np.int64]],
) -> _Linear:
    """The same n-grams under a linear support vector machine, its scores scaled to probabilities on validation."""
    from sklearn.svm import LinearSVC

    model.linear, trouble = settled(LinearSVC(C=1.0, random_state=seed), features, label_ids)
    ids = {int(label_id): at for at, label_id in enumerate(model.linear.classes_)}
    rows = [row for row, label_id in enumerate(validation[1].tolist()) if label_id in ids]
    texts, truth = [validation[0][row] for row in rows], np.array([ids[int(validation[1][row])] for row in rows])
    scores = scores_of(model.linear, model.vectorizer.transform(cut_texts(texts, model.longest))) if rows else None
    model.temperature = 1.0 if scores is None else fit_temperature(scores, truth)
    model.note = "; ".join(filter(None, (model.note, "a linear support vector machine, better on validation", trouble)))
    return model


def scores_of(linear: Any, features: Any) -> NDArray[np.float64]:
    """The scores [N, K] of a linear model, larger for likelier labels; for two labels the machine gives one a row."""
    scores = np.asarray(linear.decision_function(features), dtype=np.float64)
    return np.stack((-scores, scores), axis=1) / 2 if scores.ndim == 1 else scores


def _fit_weights(features: Any, label_ids: NDArray[np.int64], seed: int) -> tuple[Any, str | None]:
    """A linear model with probabilities, and what went wrong with it."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    n_products = getattr(features, "nnz", features.size) * len(np.unique(label_ids))
    if n_products <= MAX_EXACT:
        return settled(
            LogisticRegression(C=INVERSE_REGULARISATION, max_iter=300, random_state=seed), features, label_ids
        )
    epochs = int(np.clip(MAX_UPDATES // n_products, 1, 10))
    alpha = 1 / (INVERSE_REGULARISATION_SGD * len(label_ids))
    linear = SGDClassifier("log_loss", alpha=alpha, max_iter=epochs, tol=None, random_state=seed)
    return settled(linear, features, label_ids)


def settled(linear: Any, features: Any, label_ids: NDArray[np.int64]) -> tuple[Any, str | None]:
    """The fitted model, and a sentence when its fit had not come to rest."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        linear.fit(features, label_ids)
    unsettled = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return linear, f"its fit had not settled after {linear.max_iter} rounds" if unsettled else None


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


def cut_texts(texts: Sequence[str], longest: int | None) -> Sequence[str]:
    """The texts, each cut to so many characters."""
    return texts if longest is None else [text[:longest] for text in texts]
