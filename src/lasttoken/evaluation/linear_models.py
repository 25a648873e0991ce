"""scikit-learn's linear models on the features of texts, as the baselines fit them: one model, or one for each label.

    features [N, F] ──► fit_multinomial   logistic regression, or a linear SVM           one distribution over K labels
                    └─► fit_one_vs_rest   K logistic regressions                         K independent probabilities

The time of a fit is bounded: where non-zeros × labels are too many for an exact solver, the same loss is minimized by
stochastic gradient descent.

C = 30 for one model: of 3, 10, 30 and 100 none is best everywhere by 3-fold cross-validation on the train rows of SMS
and TREC, and 30 is within 0.6 points of the best. By gradient descent 10 was better on GoEmotions (57.4 / 56.8 %; 30:
57.0 / 53.9 %).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.calibration import fit_temperature

MAX_EXACT = 2e7  # non-zeros × labels up to which L-BFGS takes seconds
MAX_UPDATES = 2e10  # non-zeros × labels × epochs of stochastic gradient descent, 0.2e9 a second
C_EXACT = 30.0  # the inverse regularization strength, for L-BFGS
C_SGD = 10.0  # the same, for many rows
MAX_EXACT_ONE_VS_REST = 3e8  # non-zeros × labels up to which K fits of liblinear take a few minutes
C_ONE_VS_REST = 10.0
EPOCHS_ONE_VS_REST = 5  # of stochastic gradient descent

UNSEEN = -30.0  # the score of a label that no row had; its probability is 0 to every decimal that is shown
LINKS = ("softmax", "normalized sigmoids", "sigmoid")
Link = Literal["softmax", "normalized sigmoids", "sigmoid"]

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]


class CannotFitError(Exception):
    """A baseline that cannot be fitted to these rows; its message is the reason."""


class Probabilities(NamedTuple):
    """What a model gives for N texts and K labels."""

    log_probs: Floats  # [N, K]
    probs: Floats | None = None  # [N, K], where the model gives probabilities first


class LinearWeights(NamedTuple):
    """A fitted model as numbers: features [N, F] · weights + bias are its scores [N, K]; see `logits_of_scores`."""

    weights: Floats  # [F, K]
    bias: Floats  # [K]
    link: Link


class LinearModel(Protocol):
    """A fitted model."""

    notes: list[str]

    def predict(self, features: Any) -> Probabilities:
        """The scores of texts from their features [N, F]."""

    def to_weights(self, n_features: int) -> LinearWeights:
        """The model without scikit-learn."""


@dataclass
class Multinomial:
    """One distribution over the labels. Labels that train lacks have probability 0."""

    linear: Any
    n_labels: int
    notes: list[str]
    temperature: float = 1.0  # of an SVM's scores

    def predict(self, features: Any) -> Probabilities:
        """Log-probabilities."""
        from scipy.special import log_softmax

        n_texts = features.shape[0]
        log_probs = np.full((n_texts, self.n_labels), -np.inf)
        with np.errstate(divide="ignore"):
            if hasattr(self.linear, "predict_proba"):
                trained_log_probs = np.log(self.linear.predict_proba(features))
            else:
                trained_log_probs = log_softmax(svm_scores(self.linear, features) / self.temperature, axis=1)
            log_probs[:, self.linear.classes_] = trained_log_probs
        return Probabilities(log_probs)

    def to_weights(self, n_features: int) -> LinearWeights:
        """Weights whose softmax is `predict`; stochastic gradient descent fits each label against the rest."""
        coefficients, intercepts = self.linear.coef_, self.linear.intercept_
        if len(coefficients) == 1:  # two labels have one score
            coefficients = np.concatenate((-coefficients, coefficients)) / 2
            intercepts = np.concatenate((-intercepts, intercepts)) / 2
            link: Link = "softmax"
        else:
            link = "normalized sigmoids" if type(self.linear).__name__ == "SGDClassifier" else "softmax"
        weights, bias = np.zeros((n_features, self.n_labels)), np.full(self.n_labels, UNSEEN)
        weights[:, self.linear.classes_] = coefficients.T / self.temperature
        bias[self.linear.classes_] = intercepts / self.temperature
        return LinearWeights(weights, bias, link)


@dataclass
class OneVsRest:
    """A model for each label, or its constant probability where all train texts have the label, or none."""

    models: list[Any]
    notes: list[str]

    def predict(self, features: Any) -> Probabilities:
        """Probabilities, and their logarithms."""
        n_texts = features.shape[0]
        columns = [
            np.full(n_texts, model) if isinstance(model, float) else model.predict_proba(features)[:, 1]
            for model in self.models
        ]
        probs = np.stack(columns, axis=1)
        with np.errstate(divide="ignore"):
            return Probabilities(np.log(probs), probs)

    def to_weights(self, n_features: int) -> LinearWeights:
        """The log-odds of each label."""
        weights, bias = np.zeros((n_features, len(self.models))), np.zeros(len(self.models))
        for label_id, model in enumerate(self.models):
            if isinstance(model, float):  # 0 or 1
                bias[label_id] = UNSEEN if model < 0.5 else -UNSEEN
            else:
                weights[:, label_id], bias[label_id] = model.coef_[0], model.intercept_[0]
        return LinearWeights(weights, bias, "sigmoid")


def logits_of_scores(scores: NDArray[np.float32], link: Link) -> NDArray[np.float32]:
    """Logits [N, K] of scores [N, K]: log-probabilities of one label for each text, or the log-odds of each label.

    >>> logits_of_scores(np.array([[0.0, np.log(3.0)]], dtype=np.float32), "softmax").round(3).tolist()
    [[-1.3860000371932983, -0.2879999876022339]]
    """
    if link == "sigmoid":
        return scores
    if link == "normalized sigmoids":
        scores = -np.logaddexp(np.float32(0), -scores)
    shifted = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float32)


def fit_multinomial(
    features: Any, label_ids: Ids, n_labels: int, seed: int, validation: Callable[[], tuple[Any, Ids]] | None = None
) -> Multinomial:
    """Logistic regression; with `validation` (features, label ids) a linear SVM where that is better there.

    Raises:
        CannotFitError: the rows have one label only.
    """
    if len(np.unique(label_ids)) < 2:
        raise CannotFitError("the train rows have one label only")
    linear, note = _fit_logistic(features, label_ids, seed)
    model = Multinomial(linear, n_labels, [note] if note else [])
    if validation is None or features.nnz * len(np.unique(label_ids)) > MAX_EXACT:
        return model
    held_out, truth = validation()
    svm = _fit_svm(features, label_ids, n_labels, seed, held_out, truth)
    n_right, n_right_svm = (int((each.predict(held_out).log_probs.argmax(1) == truth).sum()) for each in (model, svm))
    return svm if n_right_svm > n_right else model


def fit_one_vs_rest(features: Any, truth: Bools, seed: int) -> OneVsRest:
    """A logistic regression for each of the K labels of the truth [N, K]."""
    models, n_not_converged = [], 0
    for has in truth.T:
        model, note = _fit_label(features, has, truth.shape[1], seed)
        models.append(model)
        n_not_converged += note is not None
    notes = [f"the fits of {n_not_converged} labels did not converge"] if n_not_converged else []
    return OneVsRest(models, notes)


def _fit_logistic(features: Any, label_ids: Ids, seed: int) -> tuple[Any, str | None]:
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    size = getattr(features, "nnz", features.size) * len(np.unique(label_ids))
    if size <= MAX_EXACT:
        return converged(LogisticRegression(C=C_EXACT, max_iter=300, random_state=seed), features, label_ids)
    epochs = int(np.clip(MAX_UPDATES // size, 1, 10))
    alpha = 1 / (C_SGD * len(label_ids))
    linear = SGDClassifier("log_loss", alpha=alpha, max_iter=epochs, tol=None, random_state=seed)
    return converged(linear, features, label_ids)


def _fit_svm(features: Any, label_ids: Ids, n_labels: int, seed: int, held_out: Any, truth: Ids) -> Multinomial:
    """A linear SVM, its scores scaled to probabilities on validation."""
    from sklearn.svm import LinearSVC

    linear, note = converged(LinearSVC(C=1.0, random_state=seed), features, label_ids)
    columns = {int(label_id): column for column, label_id in enumerate(linear.classes_)}
    rows = [row for row, label_id in enumerate(truth.tolist()) if label_id in columns]
    temperature = 1.0
    if rows:
        truth_columns = np.array([columns[int(truth[row])] for row in rows])
        temperature = fit_temperature(svm_scores(linear, held_out[rows]), truth_columns)
    notes = [
        "a linear SVM was chosen, because it is better than logistic regression on validation",
        *([note] if note else []),
    ]
    return Multinomial(linear, n_labels, notes, temperature)


def svm_scores(linear: Any, features: Any) -> Floats:
    """The SVM's scores [N, K], larger for more likely labels; for two labels scikit-learn gives one score a row."""
    scores = np.asarray(linear.decision_function(features), dtype=np.float64)
    return np.stack((-scores, scores), axis=1) / 2 if scores.ndim == 1 else scores


def _fit_label(features: Any, has: Bools, n_labels: int, seed: int) -> tuple[Any, str | None]:
    """A model of one label [N], or its constant probability."""
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    if has.all() or not has.any():
        return float(has.mean()), None
    ids = has.astype(np.int64)
    if getattr(features, "nnz", features.size) * n_labels <= MAX_EXACT_ONE_VS_REST:
        exact = LogisticRegression(C=C_ONE_VS_REST, solver="liblinear", max_iter=100, random_state=seed)
        return converged(exact, features, ids)
    alpha = 1 / (C_ONE_VS_REST * len(has))
    sgd = SGDClassifier("log_loss", alpha=alpha, max_iter=EPOCHS_ONE_VS_REST, tol=None, random_state=seed)
    return converged(sgd, features, ids)


def converged(linear: Any, features: Any, label_ids: Ids) -> tuple[Any, str | None]:
    """The fitted model, and a note if its fit did not converge."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        linear.fit(features, label_ids)
    failed = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return linear, f"its fit did not converge in {linear.max_iter} iterations" if failed else None


def fitted_features(vectorizer: Any, texts: Sequence[str]) -> Any:
    """The features [N, F] of the texts that a vectorizer is fitted to.

    Raises:
        CannotFitError: the texts have none of the terms that it counts.
    """
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise CannotFitError("the train texts have no words that it counts") from error
