"""The baselines: what they score, and that no rows stop them."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss

from lasttoken.core.errors import DataError
from lasttoken.data.frames import from_lists
from lasttoken.data.splitting.splits import Splits
from lasttoken.evaluation import baselines, linear_models
from lasttoken.evaluation.baselines import (
    Baseline,
    LabelledTexts,
    baseline_names,
    fit_baselines,
    fit_majority,
    run_baselines,
)
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel

HAM = ["see you at home", "call me when you are there", "lunch at noon?", "i am on the bus"]
SPAM = ["win a free prize now", "free entry, text WIN", "claim your prize today", "urgent: free cash"]
LABELS = ["ham", "spam"]


def both(ham: list[str], spam: list[str]) -> tuple[list[str], list[str]]:
    return ham + spam, ["ham"] * len(ham) + ["spam"] * len(spam)


def labelled(rows: tuple[list[str], list[str]], labels: Sequence[str] = LABELS) -> LabelledTexts:
    return LabelledTexts(rows[0], np.array([labels.index(label) for label in rows[1]], dtype=np.int64))


def run(train: tuple[list[str], list[str]], labels: Sequence[str] = LABELS) -> dict[str, Baseline]:
    rows = labelled(train, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run_baselines(SingleLabel(tuple(labels)), rows, {"test": rows}, seed=123)


def read(path: Path, text: str, label: str) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [row[text] for row in rows], [row[label] for row in rows]


def test_the_chapter_s_split_is_easy_for_cheap_models(shared_dir: Path) -> None:
    """Bag of words 96.7 %, character n-grams 97.3 % on the 300 test messages, in seconds."""
    folder = shared_dir / "data" / "sms-spam" / "book-split"
    train, test = (read(folder / f"{name}.csv", "Text", "Label") for name in ("train", "test"))
    rows = [labelled(split, ["0", "1"]) for split in (train, test)]
    found = run_baselines(SingleLabel(("0", "1")), rows[0], {"test": rows[1]}, seed=123)
    assert tuple(found) == baseline_names() == ("majority", "length-only", "tfidf-logreg", "char-ngrams")
    accuracy = {name: one.metrics["test"].accuracy for name, one in found.items()}
    assert 0.45 < accuracy["majority"] < 0.55
    assert accuracy["tfidf-logreg"] >= 0.96
    assert accuracy["char-ngrams"] >= 0.97
    assert all(one.predict_s > 0 and one.note is None for one in found.values())


def test_majority_equals_scikit_learn_s_prior() -> None:
    train = both(HAM, SPAM[:3])
    ours = run(train)["majority"].metrics["test"]
    theirs = DummyClassifier(strategy="prior").fit(np.zeros((7, 1)), train[1])
    assert ours.accuracy == theirs.score(np.zeros((7, 1)), train[1])
    assert ours.loss == pytest.approx(log_loss(train[1], theirs.predict_proba(np.zeros((7, 1)))))


def test_majority_breaks_a_tie_by_the_schema_s_order() -> None:
    train = both(HAM, SPAM)
    for labels in (["spam", "ham"], ["ham", "spam"]):
        assert run(train, labels)["majority"].metrics["test"].to_json()["confusion"] == [[4, 0], [4, 0]]


def test_the_same_seed_gives_the_same_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_models, "MAX_EXACT", 0)  # stochastic gradient descent, the only random one
    first, second = (run(both(HAM, SPAM))["tfidf-logreg"].metrics["test"].to_json() for _ in range(2))
    assert first == second
    assert first["accuracy"] == 1.0


def test_texts_without_words_skip_the_words_only() -> None:
    found = run(both(["!!!", "?!"], ["...", "!?!"]))
    assert found["tfidf-logreg"].metrics == {}
    assert "tfidf-logreg was not fitted" in (found["tfidf-logreg"].note or "")
    assert found["char-ngrams"].metrics["test"].n == 4
    assert found["majority"].metrics["test"].accuracy == 0.5


def test_blank_texts_have_nothing_but_a_length() -> None:
    found = run(both(["", " "], ["\n", ""]))
    assert [name for name, one in found.items() if one.metrics] == ["majority", "length-only"]


def test_one_train_label_skips_all_but_the_majority() -> None:
    found = run(both(HAM, []))
    assert found["majority"].metrics["test"].accuracy == 1.0
    assert "one label only" in (found["char-ngrams"].note or "")


def test_a_label_that_train_lacks_costs_a_finite_loss() -> None:
    labels = ["ham", "other", "spam"]
    rows = [labelled(split, labels) for split in (both(HAM, SPAM), (["hello"], ["other"]))]
    found = run_baselines(SingleLabel(tuple(labels)), rows[0], {"test": rows[1]}, seed=1)
    for one in found.values():
        assert one.metrics["test"].accuracy == 0.0
        assert one.metrics["test"].loss == pytest.approx(87.3, abs=0.1)


def test_long_texts_are_cut_to_the_budget_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_CHARACTERS", 100)
    found = run(both(HAM, [text * 50 for text in SPAM]))
    assert "only the first 12 characters of each text were read" in (found["char-ngrams"].note or "")


@pytest.mark.parametrize("budget", [1, 7, 50, 99])
def test_the_cut_is_the_largest_within_the_budget(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(baselines, "MAX_CHARACTERS", budget)
    lengths = [0, 3, 3, 8, 40, 46]
    longest = baselines.longest_affordable(["x" * n for n in lengths])
    assert longest is not None
    assert sum(min(n, longest) for n in lengths) <= budget or longest == 1
    assert sum(min(n, longest + 1) for n in lengths) > budget


def test_an_unknown_label_is_named() -> None:
    train, test = (from_lists(*rows) for rows in (both(HAM, SPAM), (["hello"], ["eggs"])))
    with pytest.raises(DataError, match=r"test.*'eggs'.*'ham', 'spam'"):
        fit_baselines(SingleLabel(tuple(LABELS)), Splits(train, None, test), seed=1)


def test_a_new_entry_is_fitted_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = baselines.BaselineEntry("half", "the first half of the alphabet", "predicts a half", fit_majority)
    monkeypatch.setitem(baselines.BASELINES, "half", entry)
    assert run(both(HAM, SPAM))["half"].metrics["test"].accuracy == 0.5


def test_no_train_rows_are_rejected() -> None:
    with pytest.raises(DataError, match="no train rows"):
        run_baselines(SingleLabel(tuple(LABELS)), labelled(([], [])), {}, seed=1)


MULTI = MultiLabel(("cat", "dog"))


def test_one_vs_rest_finds_the_words_of_each_label() -> None:
    texts = [f"a {'cat' if row % 2 else 'pen'} and a {'dog' if row % 3 else 'cup'} {row}" for row in range(120)]
    rows = LabelledTexts(texts, np.array([[row % 2 == 1, row % 3 > 0] for row in range(120)]))
    test = LabelledTexts(texts[:40], rows.truth[:40])
    found = run_baselines(MULTI, rows, {"validation": rows, "test": test}, seed=1)
    for name in ("tfidf-logreg", "char-ngrams"):
        assert found[name].metrics["test"].to_json()["micro_f1"] == 1.0
    majority = found["majority"].predicted["test"]
    assert majority.shape == (40, 2)
    assert (majority == majority[0]).all()


def test_a_label_that_no_train_text_has_keeps_the_probability_0() -> None:
    rows = LabelledTexts(["a cat", "a pen", "the cat"], np.array([[True, False], [False, False], [True, False]]))
    found = run_baselines(MULTI, rows, {"test": rows}, seed=1)
    assert not found["tfidf-logreg"].predicted["test"][:, 1].any()
