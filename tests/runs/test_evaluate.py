"""A run measured on a file: batches, and texts that the run was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import messages, write_messages

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import DataError
from lasttoken.core.progress import Reporter
from lasttoken.data.files import read_examples
from lasttoken.runs.evaluate import FirstBatches, count_texts_trained_on, evaluate_run


class Listening(Reporter):
    """Keeps the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture(scope="module")
def predictor(run_dir: Path) -> Predictor:
    return Predictor.load(run_dir, "cpu")


def test_texts_of_the_train_split_are_counted(run_dir: Path, tmp_path: Path) -> None:
    train = read_examples(run_dir / "splits/train.csv")
    other = read_examples(write_messages(tmp_path / "a.csv", [train.texts[0], "never seen"], ["spam", "ham"]))
    assert count_texts_trained_on(run_dir, train) == len(train)
    assert count_texts_trained_on(run_dir, other) == 1
    assert count_texts_trained_on(tmp_path, other) == 0, "a run without splits"


def test_optimistic_metrics_are_reported(run_dir: Path, predictor: Predictor) -> None:
    for split, is_optimistic in (("train", True), ("test", False)):
        reporter = Listening()
        evaluate_run(run_dir, predictor, run_dir / f"splits/{split}.csv", reporter=reporter)
        assert any("optimistic" in sentence for sentence in reporter.sentences) == is_optimistic


def test_the_first_batches_are_rows_in_order(run_dir: Path, predictor: Predictor, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "a.csv", *messages(10))
    first = write_messages(tmp_path / "first.csv", *(column[:6] for column in messages(10)))
    metrics = evaluate_run(run_dir, predictor, data, only=FirstBatches(2, 3))
    assert metrics == evaluate_run(run_dir, predictor, first)
    with pytest.raises(DataError, match="11"):
        evaluate_run(run_dir, predictor, data, only=FirstBatches(1, 11, shuffle_seed=1))
