"""Texts to answers. The answer for a text does not depend on the texts that it is batched with.

texts ─► token_ids ─► batches by length ─► logits [N, K] in the order of the texts ─► log-probabilities ─► Answer
  └────► n-grams, if the classifier contains them ─┘ weighted sum

All interfaces get their answers from `answers_of`: `predict` here, files in bulk/answers.py, HTTP in serving/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.checkpoint import load_classifier, trained_columns
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded, encode_texts, run_by_length
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.device import CPU, Device, compare_logits, pick_device
from lasttoken.core.errors import SettingsError
from lasttoken.core.process import survive_forks
from lasttoken.evaluation.decision_flags import AUTO

PROBABILITY_DECIMALS = 6  # in files and in the server's answers; batching changes a probability by up to 4e-7
PACK_FROM = 4_096  # tokens; packing a trunk takes as long as computing some 1,000 (124M shape, AVX-512)
SELF_CHECK_TEXTS = (
    "Free entry! Text WIN to claim your prize.",
    "Running late, order me a coffee?",
    "a",
    "Your parcel is waiting. Pay the fee at once.",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
    "It was the best of times, it was the worst of times.",
    "WHY ARE YOU SHOUTING",
    "ok",
)


@dataclass(frozen=True)
class Prediction:
    """The answer for one text."""

    label: str | None  # the most probable of `labels`; None: the classifier gives no label, see `--threshold`
    labels: tuple[str, ...]  # the labels that the classifier gives, the most probable first
    score: float  # probability of the label; without one, of the most probable label
    probs: dict[str, float]  # of every label, in the order of their ids
    n_tokens: int  # tokens that were read
    truncated: bool  # whether the text was too long and lost tokens


@dataclass(frozen=True)
class Answer:
    """The answer for one text, with the labels ranked by probability."""

    label: str | None  # see Prediction
    labels: tuple[str, ...]
    score: float
    ranked: list[tuple[str, float]]  # label and probability, the most probable first
    n_tokens: int
    truncated: bool

    def by_label(self, labels: Sequence[str]) -> list[float]:
        """The probabilities in the order of `labels`."""
        probs = dict(self.ranked)
        return [probs[label] for label in labels]


class Predictor:
    """A classifier on a device, with its tokenizer."""

    def __init__(self, classifier: Classifier, tokenizer: Tokenizer, device: Device = CPU) -> None:
        """Move the classifier to the device. With precision int8 its trunk is quantized, which cannot be undone.

        Raises:
            DeviceError: the device computes other logits than the CPU for eight texts.
        """
        survive_forks()
        self.classifier, self.tokenizer, self.device = classifier, tokenizer, device
        if device != CPU:
            encoded = self.encode(SELF_CHECK_TEXTS)
            expected = self._logits(encoded, CPU)
            classifier.to(device.torch_device)
            if device.precision == "int8":
                classifier.quantize_trunk()
            compare_logits(torch.from_numpy(expected), torch.from_numpy(self._logits(encoded, device)), device)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", precision: str = "auto") -> Predictor:
        """Load a finished run's classifier. `precision` auto is int8 if its trunk computed in int8 in training.

        The settings of the process stay as they are; `lasttoken.core.process.tune_cpu()` makes CPUs faster.

        Raises:
            RunError, BackboneError: not a finished run, or a corrupt one; see `load_classifier`.
            SettingsError, DeviceError: a device that this machine does not have, or that computes wrong results.
        """
        RunDir(folder).read_metrics()
        classifier, tokenizer = load_classifier(folder)
        if classifier.config.columns is None:
            classifier.config = replace(classifier.config, columns=trained_columns(folder))
        if precision == "auto" and classifier.config.int8_trunk:
            precision = "int8"
        if precision == "int8" and classifier.n_frozen is None:
            raise SettingsError(f"--precision int8 is for the frozen trunk, and the run {folder} has none; use float32")
        return cls(classifier, tokenizer, pick_device(device, precision))

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of their ids."""
        return self.classifier.config.labels

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts for this classifier: long ones are truncated, and padding is added if its pooling needs it."""
        config = self.classifier.config
        return encode_texts(
            self.tokenizer,
            texts,
            max_length=config.max_length,
            truncate=config.truncate,
            end_of_text_id=config.end_of_text_id,
            prefix_ids=config.prefix_ids,
            suffix_ids=config.suffix_ids,
            pad=config.pads,
        )

    def logits(self, encoded: Encoded, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Logits [N, K] in float32, in the order of the texts; `progress` is called with the number of rows done."""
        return self.classifier.blended(self._logits(encoded, self.device, progress), encoded.texts)

    def _logits(
        self, encoded: Encoded, device: Device, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        if encoded.n_tokens >= PACK_FROM and device == CPU:
            self.classifier.pack_trunk()

        def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            batch = self.classifier(*encoded.pack(rows, device.torch_device))
            return batch.float().cpu().numpy()  # type: ignore[no-any-return]

        logits = np.empty((len(encoded), len(self.labels)), dtype=np.float32)
        budget = self.classifier.token_budget(device)
        for rows, batch in run_by_length(compute, encoded.lengths, device, token_budget=budget):
            logits[rows] = batch
            if progress:
                progress(len(rows))
        return logits

    def log_probs(self, encoded: Encoded, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Log-probabilities [N, K], at the classifier's temperature."""
        config = self.classifier.config
        return config.task.log_probs(self.logits(encoded, progress), config.temperature)

    def answer_by(self, threshold: str | None, cost: str | None) -> None:
        """Replace the decision rule that the classifier was saved with; both None: keep it.

        Raises:
            SettingsError: see `Task.parse_decision`; `auto` needs validation rows, which only a training has.
        """
        if threshold is None and cost is None:
            return
        if threshold == AUTO:
            raise SettingsError(f"--threshold {AUTO} is fitted while training; give a probability, such as 0.9")
        config = self.classifier.config
        decision = config.task.change_decision(config.decision, threshold, cost)
        self.classifier.config = replace(config, decision=decision)

    def predict(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> list[Prediction]:
        """One answer for each text, in order."""
        config, encoded = self.classifier.config, self.encode(texts)
        answers = answers_of(self.log_probs(encoded, progress), encoded.lengths, encoded.cut, config)
        return [
            Prediction(
                answer.label,
                answer.labels,
                answer.score,
                dict(zip(self.labels, answer.by_label(self.labels), strict=True)),
                answer.n_tokens,
                answer.truncated,
            )
            for answer in answers
        ]


def answers_of(
    log_probs: NDArray[np.float32],
    n_tokens: NDArray[np.int64],
    cut: NDArray[np.bool_],
    config: ClassifierConfig,
    *,
    decimals: int | None = None,
    top_k: int | None = None,
    rank_rounded: bool = True,
) -> list[Answer]:
    """The classifier's answers to N texts.

    Args:
        log_probs: [N, K].
        n_tokens, cut: [N], of each text its tokens, and whether it was truncated.
        decimals: of the probabilities; None: they are not rounded.
        top_k: how many labels are ranked; None: all.
        rank_rounded: rank by rounded probabilities, where equal ones keep the order of their ids; else by exact ones.
    """
    if decimals is None:
        probs: NDArray[np.floating] = np.exp(log_probs)
    else:
        probs = np.exp(log_probs.astype(np.float64)).round(decimals)
    order = np.argsort(-(probs if rank_rounded else log_probs), axis=1, kind="stable")[:, :top_k]
    label_ids = config.task.given_label_ids(log_probs, config.decision)
    labels = config.labels
    return [
        Answer(
            labels[predicted_ids[0]] if predicted_ids else None,
            tuple(labels[label_id] for label_id in predicted_ids),
            row[predicted_ids[0] if predicted_ids else ranked[0]],
            [(labels[label_id], row[label_id]) for label_id in ranked],
            length,
            truncated,
        )
        for predicted_ids, ranked, row, length, truncated in zip(
            label_ids, order.tolist(), probs.tolist(), n_tokens.tolist(), cut.tolist(), strict=True
        )
    ]
