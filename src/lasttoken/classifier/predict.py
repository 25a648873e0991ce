"""Texts to labels. What a text is batched with does not change its answer.

texts ─► token_ids ─► batches by length ─► logits [N, K] in the order asked ─► Prediction
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
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded, encode_texts, run_by_length
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.device import CPU, Device, compare_logits, pick_device
from lasttoken.core.errors import SettingsError
from lasttoken.core.process import survive_forks
from lasttoken.evaluation.decision_flags import AUTO

PROBABILITY_DECIMALS = 6  # in files and in a server's answers; a batch changes a probability by up to 4e-7
PACK_FROM = 4_096  # tokens; packing a trunk takes the time of some 1,000 before it pays (124M shape, AVX-512)
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

    label: str | None  # None: no label is probable enough to answer, see `--threshold`; of several the likeliest
    labels: tuple[str, ...]  # the label, if any; or all labels that the text has, the likeliest first
    score: float  # probability of the label; without one, of the most probable
    probs: dict[str, float]  # of every label
    n_tokens: int  # tokens read
    truncated: bool  # whether the text was too long and lost tokens


class Predictor:
    """A classifier on a machine, with its tokenizer."""

    def __init__(self, classifier: Classifier, tokenizer: Tokenizer, device: Device = CPU) -> None:
        """Moves the classifier to the machine; on one of precision int8 its trunk is quantized, for good.

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
        """Load a finished run's classifier. `precision` auto is int8 where its trunk was trained in int8.

        Raises:
            RunError, BackboneError: not a finished run, or torn; see `load_classifier`.
            SettingsError, DeviceError: a device that is not there, or computes nonsense.
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
        """Texts as this classifier reads them: cut, and padded where it was trained so."""
        config = self.classifier.config
        return encode_texts(
            self.tokenizer,
            texts,
            max_length=config.max_length,
            truncate=config.truncate,
            end_of_text_id=config.end_of_text_id,
            pad=config.pads,
        )

    def logits(self, encoded: Encoded, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Logits [N, K] in float32, in the order of the texts; `progress` is told of rows done."""
        return self._logits(encoded, self.device, progress)

    def _logits(
        self, encoded: Encoded, device: Device, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        if encoded.n_tokens >= PACK_FROM and device == CPU:
            self.classifier.pack_trunk()

        def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            batch = self.classifier(*encoded.pack(rows, device.torch_device))
            return batch.float().cpu().numpy()  # type: ignore[no-any-return]

        logits = np.empty((len(encoded), len(self.labels)), dtype=np.float32)
        for rows, batch in run_by_length(compute, encoded.lengths, device):
            logits[rows] = batch
            if progress:
                progress(len(rows))
        return logits

    def log_probs(self, encoded: Encoded, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Log-probabilities [N, K], at the classifier's temperature."""
        config = self.classifier.config
        return config.task.log_probs(self.logits(encoded, progress), config.temperature)

    def answer_by(self, threshold: str | None, cost: str | None) -> None:
        """Answer by another rule than the classifier was saved with; both None: leave it.

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
        log_probs = self.log_probs(encoded, progress)
        probs, given = np.exp(log_probs), config.task.given_label_ids(log_probs, config.decision)
        best = log_probs.argmax(1) if len(probs) else np.empty(0, np.int64)
        return [
            Prediction(
                label=self.labels[label_ids[0]] if label_ids else None,
                labels=tuple(self.labels[label_id] for label_id in label_ids),
                score=float(row[label_ids[0] if label_ids else likeliest]),
                probs={label: float(p) for label, p in zip(self.labels, row, strict=True)},
                n_tokens=int(length),
                truncated=bool(cut),
            )
            for label_ids, likeliest, row, length, cut in zip(
                given, best, probs, encoded.lengths, encoded.cut, strict=True
            )
        ]
