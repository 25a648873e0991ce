"""The cheap models where a text has any number of labels: one of each kind for each label against the rest.

    majority       the share of train texts that have each label, as its probability for every text
    length-only    characters and words, as splines ──► K logistic regressions
    tfidf-logreg   TF-IDF of words (1-2 grams) ──► K logistic regressions
    char-ngrams    TF-IDF of character n-grams inside words (2-5) ──► K logistic regressions

Every label is given from the threshold on that is best for its F1 on validation, as the GPT's are: the comparison is
of models, not of thresholds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.data.label_tables import label_names, truth_of
from lasttoken.data.splits import Splits
from lasttoken.evaluation.baselines import (
    MAX_NGRAMS,
    NAMES,
    VECTORIZERS,
    Baseline,
    CannotFitError,
    Lengths,
    cut_texts,
    fitted_features,
    longest_affordable,
    settled,
)
from lasttoken.evaluation.multilabel import compute_multilabel_metrics
from lasttoken.evaluation.thresholds import best_thresholds

INVERSE_REGULARISATION = 10.0  # scikit-learn's C
MAX_EXACT = 3e8  # non-zeros × labels up to which K fits of liblinear take a few minutes
EPOCHS_SGD = 5

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def one_vs_rest(splits: Splits, seed: int, names: Sequence[str] = NAMES) -> dict[str, Baseline]:
    """The baselines of splits whose texts have any number of labels, measured on all splits but train."""
    labels = label_names(splits.train)
    targets = {name: np.asarray(truth_of(one, labels), dtype=bool) for name, one in splits.named().items()}
    texts = {name: one.texts for name, one in splits.named().items()}
    return {name: _measured(name, texts, targets, labels, seed) for name in names}


def _measured(
    name: str, texts: Mapping[str, Sequence[str]], targets: Mapping[str, Bools], labels: Sequence[str], seed: int
) -> Baseline:
    start = time.perf_counter()
    held_out = [split for split in texts if split != "train"]
    try:
        predict, note = _fit(name, texts["train"], targets["train"], seed)
    except CannotFitError as reason:
        return Baseline(fit_s=time.perf_counter() - start, note=f"{name} was not fitted: {reason}")
    fitted = time.perf_counter()
    probs = {split: predict(texts[split]) for split in held_out}
    predicted_s = time.perf_counter() - fitted
    chosen_on = "validation" if "validation" in probs else held_out[0] if held_out else None
    thresholds = best_thresholds(targets[chosen_on], probs[chosen_on]) if chosen_on else 0.5
    predicted = {split: np.asarray(found >= thresholds) for split, found in probs.items()}
    metrics = {
        split: compute_multilabel_metrics(
            targets[split], labels, probs=probs[split], predicted=predicted[split], intervals=True
        )
        for split in held_out
    }
    return Baseline(metrics, predicted, fitted - start, predicted_s, f"{name}: {note}" if note else None)


def _fit(name: str, texts: Sequence[str], targets: Bools, seed: int) -> tuple[Any, str | None]:
    """A function from texts to probabilities [N, K], and what a reader must know of it."""
    if name == "majority":
        shares = targets.mean(axis=0)
        return lambda some: np.tile(shares, (len(some), 1)), None
    longest = longest_affordable(texts) if name in VECTORIZERS else None
    vectorizer = _vectorizer(name)
    features = fitted_features(vectorizer, cut_texts(texts, longest))
    models, unsettled = [], 0
    for target in targets.T:
        model, trouble = _fit_one(features, target, targets.shape[1], seed)
        models.append(model)
        unsettled += trouble is not None
    notes = [f"only the first {longest:,} characters of each text were read"] if longest else []
    notes += [f"the fits of {unsettled} labels had not settled"] if unsettled else []

    def predict(some: Sequence[str]) -> Floats:
        found = vectorizer.transform(cut_texts(some, longest))
        columns = [
            np.full(len(some), model) if isinstance(model, float) else model.predict_proba(found)[:, 1]
            for model in models
        ]
        return np.stack(columns, axis=1)

    return predict, "; ".join(notes) or None


def _vectorizer(name: str) -> Any:
    if name not in VECTORIZERS:
        return Lengths()
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(**VECTORIZERS[name], sublinear_tf=True, max_features=MAX_NGRAMS, dtype=np.float32)


def _fit_one(features: Any, target: Bools, n_labels: int, seed: int) -> tuple[Any, str | None]:
    """A model of one label, or its constant probability where all train texts have it, or none."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    if target.all() or not target.any():
        return float(target.mean()), None
    has = target.astype(np.int64)
    if getattr(features, "nnz", features.size) * n_labels <= MAX_EXACT:
        exact = LogisticRegression(C=INVERSE_REGULARISATION, solver="liblinear", max_iter=100, random_state=seed)
        return settled(exact, features, has)
    alpha = 1 / (INVERSE_REGULARISATION * len(target))
    steps = SGDClassifier("log_loss", alpha=alpha, max_iter=EPOCHS_SGD, tol=None, random_state=seed)
    return settled(steps, features, has)
