"""Rows that are held out: all of validation, or every row once where validation is small."""

from __future__ import annotations

import numpy as np
import pytest
from miniature import random_encoded

from lasttoken.classifier.encoding import Encoded
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.training import held_out
from lasttoken.training.held_out import Score, best_place, parts_of, score_of


def repeated(encoded: Encoded) -> Encoded:
    """Every text twice."""
    rows = [row for row in range(len(encoded)) for _ in range(2)]
    return Encoded(encoded.ids_of(rows), encoded.lengths[rows], encoded.cut[rows], 0)


def test_a_validation_split_of_the_user_is_all_that_is_held_out() -> None:
    encoded = [random_encoded(8, 9), random_encoded(4, 9, seed=2)]
    (part,) = parts_of(encoded, np.arange(12) % 2, may_fold=False, seed=1)
    assert part.fitted.tolist() == list(range(8))
    assert part.scored.tolist() == list(range(8, 12))


def test_so_is_a_large_one_that_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "FEW_ROWS", 4)
    encoded = [random_encoded(8, 9), random_encoded(4, 9, seed=2)]
    assert len(parts_of(encoded, np.arange(12) % 2, may_fold=True, seed=1)) == 1


@pytest.mark.parametrize("several", [False, True])
def test_each_row_is_held_out_once_and_copies_of_a_text_together(several: bool) -> None:
    encoded = [repeated(random_encoded(15, 9)), repeated(random_encoded(5, 9, seed=2))]
    labels = np.repeat(np.arange(20) % 3, 2)
    truth = np.eye(3, dtype=bool)[labels] if several else labels
    parts = parts_of(encoded, truth, may_fold=True, seed=1)
    assert sorted(np.concatenate([part.scored for part in parts]).tolist()) == list(range(40))
    for part in parts:
        assert not set(part.fitted // 2) & set(part.scored // 2)
        assert set(part.fitted) | set(part.scored) == set(range(40))
    again = parts_of(encoded, truth, may_fold=True, seed=1)
    assert [part.scored.tolist() for part in again] == [part.scored.tolist() for part in parts]


def test_the_only_row_of_a_label_is_not_scored_and_two_texts_are_enough() -> None:
    encoded = [random_encoded(11, 9), random_encoded(4, 9, seed=2)]
    parts = parts_of(encoded, np.array([2] + [0, 1] * 7), may_fold=True, seed=1)
    assert sorted(np.concatenate([part.scored for part in parts]).tolist()) == list(range(1, 15))
    (part,) = parts_of([random_encoded(1, 9), random_encoded(1, 9, seed=2)], np.array([0, 1]), may_fold=True, seed=1)
    assert part.scored.tolist() == [1]


def test_a_score_does_not_punish_confidence_and_ties_go_to_the_loss() -> None:
    task = task_of(["a", "b"], None)
    truth = np.tile([0, 1, 0, 1, 0], 20)
    logits = np.tile(np.array([[2, 0], [0, 1], [1, 0], [0, 3], [0, 1]], dtype=np.float32), (20, 1))
    for metric in ("loss", "accuracy"):
        score = score_of(task, logits, truth, metric)
        assert score_of(task, 10 * logits, truth, metric).value == pytest.approx(score.value, abs=1e-4)
    assert score.value == 0.8
    assert best_place([Score(0.8, 0.4, True), Score(0.8, 0.3, True), Score(0.7, 0.1, True)]) == 1
    assert best_place([Score(0.5, 0.3, False), Score(0.4, 0.4, False)]) == 1
    assert best_place([Score(0.8, 0.4, True), Score(0.8, 0.4, True)]) == 0
