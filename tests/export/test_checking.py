"""Logits of an export are accepted up to a tolerance, and other libraries are quiet meanwhile."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from miniature import classifier_of, random_gpt, small_tokenizer

from lasttoken.classifier.predict import Predictor
from lasttoken.core.device import CPU
from lasttoken.core.errors import FailedError
from lasttoken.export.checking import TOLERANCE, largest_difference, logits_of, quiet


def test_the_tolerance_is_absolute_for_small_logits_and_relative_for_large_ones() -> None:
    small, large = np.array([[1, -2]], np.float32), np.array([[100, -1000]], np.float32)
    assert largest_difference(small + TOLERANCE / 2, small, "x") == pytest.approx(TOLERANCE / 2, rel=0.01)
    with pytest.raises(FailedError, match=r"x computes other logits.*nothing was written"):
        largest_difference(small + 2 * TOLERANCE, small, "x")
    largest_difference(large.astype(np.float64) + 50 * TOLERANCE, large, "x")
    with pytest.raises(FailedError):
        largest_difference(large.astype(np.float64) + 200 * TOLERANCE, large, "x")


def test_logits_that_are_not_numbers_are_rejected() -> None:
    with pytest.raises(FailedError):
        largest_difference(np.array([[np.nan, 0.0]]), np.zeros((1, 2), np.float32), "x")


def test_logits_are_divided_by_the_temperature() -> None:
    classifier = classifier_of(random_gpt())
    predictor = Predictor(classifier, small_tokenizer(), CPU)
    plain = logits_of(predictor, ("a", "in the end"))
    object.__setattr__(classifier.config, "temperature", 4.0)
    np.testing.assert_allclose(logits_of(predictor, ("a", "in the end")), plain / 4, rtol=1e-6)


def test_log_messages_are_hidden_only_inside_the_block(caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        logging.getLogger("someone").warning("hidden")
        logging.getLogger("someone").error("an error")
    logging.getLogger("someone").warning("shown")
    assert [record.message for record in caplog.records] == ["an error", "shown"]
