"""How often a 95 % interval holds the truth: exactly for Wilson's, by simulation for all others.

    python benchmarks/coverage.py [--quick] [--samples 400]

Wilson's interval: every number of correct rows that n rows can have, weighted by its binomial probability; nothing is
drawn. A count can only be a whole number, so at single n and p the coverage jumps: at n = 50, p = 0.99 it can be
91.1 % or 98.6 % and nothing between for any interval of this kind. What can be asked for is the mean over p.

Other figures: a population of 400,000 rows whose figures are known, n rows drawn from it, and whether the interval of
the sample holds the population's figure, again and again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.calibration import expected_calibration_error, top_label
from lasttoken.evaluation.intervals import paired_difference, wilson_interval
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.precision_recall import Ranking

SIZES = (50, 100, 200, 500, 1000)
SHARES = (*np.round(np.arange(0.5, 0.96, 0.05), 2).tolist(), 0.97, 0.98, 0.99)
FIGURES = ("macro_f1", "balanced_accuracy", "mcc", "pr_auc", "loss", "brier", "ece")
POPULATION = 400_000


def wilson_coverage(n: int, p: float) -> float:
    """The probability that the interval of a binomial of n and p holds p."""
    counts = np.arange(n + 1)
    log_ways = np.concatenate(([0.0], np.cumsum(np.log(np.arange(n, 0, -1.0)) - np.log(np.arange(1.0, n + 1)))))
    chances = np.exp(log_ways + counts * np.log(p) + (n - counts) * np.log1p(-p))
    bounds = np.array([wilson_interval(int(count), n) for count in counts])
    return float(chances[(bounds[:, 0] <= p) & (p <= bounds[:, 1])].sum())


@dataclass(frozen=True, eq=False)
class Population:
    """Rows of two classifiers of K labels: A's log-probabilities, and whether B is right."""

    name: str
    truth: NDArray[np.int64]
    log_probs: NDArray[np.float64]
    correct_b: NDArray[np.bool_]

    @classmethod
    def of(cls, name: str, shares: Sequence[float], apart: float, overconfident: float) -> Population:
        """Labels with these shares; a row's scores are normal, `apart` higher at its own label."""
        random = np.random.default_rng(12)
        truth = random.choice(len(shares), size=POPULATION, p=shares)
        scores = random.normal(size=(POPULATION, len(shares)))
        scores[np.arange(POPULATION), truth] += apart
        logits = overconfident * (apart * scores + np.log(shares))
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        other = scores + random.normal(size=scores.shape) * 0.7 + np.log(shares) / apart
        return cls(name, truth, log_probs, other.argmax(axis=1) == truth)

    def figures(self) -> dict[str, float]:
        """What is true of all rows. The ECE is of 200 bins, which is as good as no bins."""
        k = self.log_probs.shape[1]
        whole = compute_metrics(self.truth, [str(i) for i in range(k)], log_probs=self.log_probs)
        confidence, correct = top_label(self.log_probs, self.truth)
        return {
            "accuracy": whole.accuracy,
            "macro_f1": whole.macro_f1,
            "balanced_accuracy": whole.balanced_accuracy,
            "mcc": whole.mcc,
            "ece": expected_calibration_error(confidence, correct, 200),
            "difference": float(correct.mean() - self.correct_b.mean()),
            **self._with_probabilities(),
        }

    def _with_probabilities(self) -> dict[str, float]:
        rows, probs = np.arange(len(self.truth)), np.exp(self.log_probs)
        areas = [Ranking.of(self.truth == i, column).average_precision() for i, column in enumerate(self.log_probs.T)]
        return {
            "pr_auc": float(np.mean(areas)),
            "loss": float(-self.log_probs[rows, self.truth].mean()),
            "brier": float(((probs**2).sum(axis=1) - 2 * probs[rows, self.truth] + 1).mean()),
        }

    def sample(self, n: int, random: np.random.Generator) -> tuple[Metrics, NDArray[np.bool_]]:
        """The metrics of n rows, and where B is right on them."""
        rows = random.integers(POPULATION, size=n)
        labels = [str(i) for i in range(self.log_probs.shape[1])]
        metrics = compute_metrics(self.truth[rows], labels, log_probs=self.log_probs[rows], intervals=True)
        return metrics, self.correct_b[rows]


def simulate(population: Population, n: int, n_samples: int, truth: Mapping[str, float]) -> dict[str, float]:
    """The share of samples whose interval holds the truth, for each figure."""
    random = np.random.default_rng(n)
    held = dict.fromkeys((*FIGURES, "difference"), 0)
    for _ in range(n_samples):
        metrics, correct_b = population.sample(n, random)
        intervals = {name: getattr(metrics, f"{name}_ci95") for name in FIGURES}
        intervals["difference"] = paired_difference(metrics.correct, correct_b).ci95
        for name, (low, high) in intervals.items():
            held[name] += low <= truth[name] <= high
    return {name: count / n_samples for name, count in held.items()}


def populations() -> list[Population]:
    """From balanced and easy to judge, to few errors of a rare label."""
    return [
        Population.of("2 labels, 50/50", (0.5, 0.5), 1.7, 1.0),
        Population.of("2 labels, 87/13", (0.87, 0.13), 2.5, 1.5),
        Population.of("2 labels, 87/13, 1 % wrong", (0.87, 0.13), 3.2, 1.5),
        Population.of("5 labels, 45 to 9 %", tuple(np.array([60, 30, 20, 15, 12]) / 137), 2.5, 1.5),
        Population.of("20 labels, 5 % each", (0.05,) * 20, 3.0, 0.8),
    ]


def print_wilson() -> None:
    """The table of the exact coverage."""
    print("Wilson, exact (%)\n\n| n \\ p |" + "".join(f" {p:g} |" for p in SHARES) + " mean |")
    print("|---" * (len(SHARES) + 2) + "|")
    for n in SIZES:
        found = [100 * wilson_coverage(n, p) for p in SHARES]
        print(f"| {n:,} |" + "".join(f" {one:.1f} |" for one in found) + f" {np.mean(found):.1f} |")


def print_simulated(n_samples: int, sizes: Sequence[int]) -> None:
    """The table of the simulated coverage."""
    noise = 196 * (0.95 * 0.05 / n_samples) ** 0.5
    print(f"\nAll others, {n_samples} samples a line (%; ± {noise:.1f} by chance)\n")
    print("| population (accuracy) | n |" + "".join(f" {name} |" for name in (*FIGURES, "difference")))
    print("|---" * (len(FIGURES) + 3) + "|")
    for population in populations():
        truth = population.figures()
        for n in sizes:
            found = simulate(population, n, n_samples, truth)
            cells = "".join(f" {100 * share:.1f} |" for share in found.values())
            print(f"| {population.name} ({truth['accuracy']:.3f}) | {n:,} |{cells}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400, help="samples of each population and size")
    parser.add_argument("--quick", action="store_true", help="40 samples of 50 and of 200 rows")
    options = parser.parse_args()
    print_wilson()
    print_simulated(40 if options.quick else options.samples, (50, 200) if options.quick else SIZES)


if __name__ == "__main__":
    main()
