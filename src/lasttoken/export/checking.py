"""An export is compared with the classifier it was made from: the logits of a few difficult texts."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.tokenizer import END_OF_TEXT
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import FailedError

TOLERANCE = 1e-4  # of logits up to 10; relative beyond that
SHORT_PROBES = (
    "a",
    "Free entry! Text WIN to claim your prize.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    f"user text {END_OF_TEXT} that goes on",
    "ok",
    "日本語のテキスト, مرحبا, 👩‍👩‍👧",
    "",
)
PROBE_BATCHES = (
    SHORT_PROBES,
    ("word " * 3000,),
)  # apart: the others would be padded to its length, at 20 times the cost
PROBES = tuple(text for batch in PROBE_BATCHES for text in batch)


def logits_of(predictor: Predictor, texts: tuple[str, ...]) -> NDArray[np.float32]:
    """Our logits [N, K], divided by the classifier's temperature."""
    temperature = np.float32(predictor.classifier.config.temperature)
    return np.asarray(predictor.logits(predictor.encode(texts)) / temperature)


def largest_difference(actual: NDArray[Any], expected: NDArray[np.float32], library: str) -> float:
    """The largest difference between two arrays of logits, of which `library` computed the first.

    Raises:
        FailedError: it is above TOLERANCE.
    """
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10):
        raise FailedError(
            f"{library} computes other logits from the export: they differ by {difference:.2g}, and {TOLERANCE:g} is "
            "allowed; nothing was written. Please report it"
        )
    return difference


@contextmanager
def quiet() -> Iterator[None]:
    """Hide log messages below errors, warnings that libraries give one another, and transformers' progress bars."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    bars: Any = import_module("transformers.utils.logging") if "transformers" in sys.modules else None
    if bars:
        bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if bars:
            bars.enable_progress_bar()
