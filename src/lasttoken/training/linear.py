"""Logistic regression on features for a path of regularization strengths: one distribution over labels, or K of two.

    features [N, F] ─► standardized z ─► principal axes ─► L-BFGS for each C, from the solution before ─► head [K, F]

    minimize   Σ_n w_n · loss(W z_n + b, y_n)  +  |W - W₀|² / (2C)       z = (x - mean) / sd;  b is not penalized

The loss is cross-entropy, or the sum of K binary ones where a text may have any number of labels; C is scikit-learn's,
whose solutions these are (tests/training/test_linear.py). Its own solver knows neither a target W₀ nor the axes: a
gradient costs two matrix multiplications, and along principal axes, each scaled by its curvature, it takes half as many
of them. With fewer rows than numbers a row, the axes that the rows span are enough. mean and sd are folded into the
head, so that the classifier is an ordinary one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
MAX_ITERATIONS = 500
PRECISE, ROUGH = 1e-4, 1e-3  # largest gradient of the mean loss at the end: of a head that is kept, of a comparison
SMALLEST_SPREAD = 1e-6  # of a number's sd to its mean; below, it counts as constant
CHUNK = 1024  # rows that are standardized at a time, which bounds the copies in float64
SMALLEST_AXIS = 1e-7  # of an axis' variance to the largest; below, it is rounding


@dataclass(frozen=True)
class Head:
    """A linear head on features as they are, not standardized."""

    weight: NDArray[np.float32]  # [K, F]
    bias: NDArray[np.float32]  # [K]

    def logits(self, features: Floats) -> NDArray[np.float32]:
        """[N, F] -> [N, K]."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float32)


@dataclass(frozen=True)
class Design:
    """Rows on the principal axes of their standardized features. It knows no label, so folds can share it."""

    mean: Floats  # [F]
    sd: Floats  # [F]; infinite for a number that hardly varies
    axes: NDArray[np.float32]  # [F, R]
    spread: Floats  # [R], the variance along each axis
    inputs: NDArray[np.float32]  # [N, R]

    @classmethod
    def of(cls, features: NDArray[np.float32], most_axes: int | None = None) -> Design:
        """The design of features [N, F]; `most_axes` keeps only the axes of the largest variance."""
        mean, sd = _moments(features)
        z = np.empty_like(features)
        for first in range(0, len(features), CHUNK):
            z[first : first + CHUNK] = (features[first : first + CHUNK] - mean) / sd
        axes, spread = _principal_axes(z, most_axes)
        return cls(mean, sd, axes, spread, z @ axes)


class LinearPath:
    """One logistic regression for growing C; each solution starts from the one before."""

    def __init__(
        self,
        design: Design,
        rows: NDArray[np.int64],
        truth: NDArray[np.bool_],
        *,
        exclusive: bool,
        weights: Floats | None = None,
        target: Floats | None = None,
        tolerance: float = PRECISE,
    ) -> None:
        """Prepare a regression.

        Args:
            design: of all rows, fitted or not.
            rows: [N], those that are fitted.
            truth: [N, K], which labels each of them has.
            exclusive: whether each row has exactly one label.
            weights: [N]; None: 1 each.
            target: [K, F], weights of the features towards which the solution shrinks (W₀); None: zero.
            tolerance: the largest gradient of the mean loss at which a solution is good enough.
        """
        self.design, self.exclusive, self.tolerance, self.target = design, exclusive, tolerance, target
        self.weights = np.ones(len(rows), np.float32) if weights is None else weights.astype(np.float32)
        self.total = float(self.weights.sum())
        self.inputs = rows_of(design.inputs, rows)  # [N, R]
        self.truth = truth.astype(np.float32)
        self.offset: Floats | float = 0.0
        if target is not None:  # W₀ acts on the axes that the rows span, which is all of its effect on them
            self.offset = (self.inputs @ (design.axes.T @ _standardized(target, design.sd).T)).astype(np.float32)
        self.solution = np.zeros((truth.shape[1], design.axes.shape[1] + 1))  # [K, R + 1]: difference to W₀; bias

    def solve(self, strength: float) -> Head:
        """The head at C = `strength`."""
        from scipy.optimize import minimize

        ridge = 1 / (strength * self.total)
        n_labels, width = self.solution.shape
        curvature = 1 / (n_labels if self.exclusive else 4)
        scale = np.append(
            1 / np.sqrt(self.design.spread * curvature + ridge), 1.0
        )  # of each axis; the bias keeps its own

        def loss(flat: Floats) -> tuple[float, Floats]:
            scaled = flat.reshape(n_labels, width) * scale
            value, gradient = self._loss(scaled)
            value += 0.5 * ridge * float((scaled[:, :-1] ** 2).sum())
            gradient[:, :-1] += ridge * scaled[:, :-1]
            return value, (gradient * scale).ravel()

        found = minimize(
            loss,
            (self.solution / scale).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS, "gtol": self.tolerance, "ftol": self.tolerance * 1e-4},
        )
        self.solution = found.x.reshape(n_labels, width) * scale
        return self._folded()

    def _loss(self, solution: Floats) -> tuple[float, Floats]:
        """The mean loss over the rows, and its gradient [K, R + 1]."""
        from scipy.special import expit  # without overflow

        logits = self.inputs @ solution[:, :-1].T.astype(np.float32) + solution[:, -1].astype(np.float32) + self.offset
        of_truth = (logits * self.truth).sum(1)
        if self.exclusive:
            largest = logits.max(1, keepdims=True)
            probs = np.exp(logits - largest)
            total = probs.sum(1, keepdims=True)
            losses = (np.log(total) + largest)[:, 0] - of_truth
            probs /= total
        else:
            losses = np.logaddexp(0, logits).sum(1) - of_truth
            probs = expit(logits)
        error = (probs - self.truth) * (self.weights / self.total)[:, None]
        gradient = np.empty(solution.shape)
        gradient[:, :-1] = error.T @ self.inputs
        gradient[:, -1] = error.sum(0, dtype=np.float64)
        return float(losses @ self.weights.astype(np.float64)) / self.total, gradient

    def _folded(self) -> Head:
        """The solution as weights of features that are not standardized."""
        weight = (self.solution[:, :-1] @ self.design.axes.T.astype(np.float64)) / self.design.sd
        if self.target is not None:
            weight = weight + np.where(np.isfinite(self.design.sd), self.target, 0)
        bias = self.solution[:, -1] - weight @ self.design.mean
        return Head(weight.astype(np.float32), bias.astype(np.float32))


def rows_of(array: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows of an array: a view if they follow one another, else a copy.

    >>> rows_of(np.zeros((5, 2), np.float32), np.arange(1, 4)).base is None
    False
    """
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return array[rows[0] : rows[0] + len(rows)]
    return array[rows]


def _standardized(weight: Floats, sd: Floats) -> Floats:
    """Weights [K, F] of features as those of standardized features."""
    return np.where(np.isfinite(sd), weight * np.where(np.isfinite(sd), sd, 0), 0)


def _moments(features: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean and standard deviation [F] of the rows; a number that hardly varies has an infinite one, and no effect."""
    mean = features.mean(0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for first in range(0, len(features), CHUNK):
        squares += ((features[first : first + CHUNK] - mean) ** 2).sum(0)
    sd = np.sqrt(squares / len(features))
    return mean, np.where(sd > SMALLEST_SPREAD * np.maximum(abs(mean), 1e-30), sd, np.inf)


def _principal_axes(z: NDArray[np.float32], most: int | None) -> tuple[NDArray[np.float32], Floats]:
    """The axes [F, R] in which the rows z [N, F] vary, and the variance [R] along each."""
    from scipy.linalg import eigh

    n_rows, width = z.shape
    gram = z @ z.T if n_rows < width else z.T @ z
    size = len(gram)
    first = 0 if most is None else max(size - most, 0)
    spread, vectors = eigh(gram.astype(np.float64) / n_rows, subset_by_index=(first, size - 1))
    kept = spread > SMALLEST_AXIS * max(spread[-1], 1e-30)
    spread, vectors = spread[kept], vectors[:, kept]
    axes = z.T @ (vectors / np.sqrt(spread * n_rows)) if n_rows < width else vectors
    return np.asarray(axes, dtype=np.float32), np.asarray(spread, dtype=np.float64)
