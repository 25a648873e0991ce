"""A classifier whose texts have any number of labels, from the file to an answer."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import random_gpt, run_cli, write_backbone, write_messages

from lasttoken import TextClassifier
from lasttoken.classifier.explain import explain
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.resolve import resolve
from lasttoken.data.frames import from_lists
from lasttoken.data.splitting.splits import Splits
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.verdict import judge
from lasttoken.runs.compare import compare_runs

ANIMALS = {"cat": "the cat sat on the mat", "dog": "a dog barked", "fish": "fish swim"}


def sentences(n: int, seed: int = 1) -> tuple[list[str], list[list[str]]]:
    """Texts that name any of three animals, and which: a third of them none."""
    random = np.random.default_rng(seed)
    has = random.random((n, 3)) < (0.4, 0.3, 0.2)
    sets = [[name for name, there in zip(ANIMALS, row, strict=True) if there] for row in has.tolist()]
    texts = [f"{at}: " + "; ".join(["hm", *(ANIMALS[name] for name in names)]) for at, names in enumerate(sets)]
    return texts, sets


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone"), random_gpt(n_positions=96))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts, sets = sentences(160)
    return write_messages(tmp_path_factory.mktemp("data") / "animals.csv", texts, list(map("|".join, sets)))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, data: Path, backbone: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "animals"
    flags = ["--multi-label", "--epochs", 8, "--learning-rate", 1e-2, "--seeds", 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(tmp_path_factory.mktemp("run-cache")))
        answer = run_cli("train", data, "--backbone", backbone, "--out", out, *flags)
    assert answer.code == 0, answer.err
    assert "labels per train row" in answer.err
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_learns_and_says_so(run_dir: Path) -> None:
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["multi_label"] is True
    assert metrics["labels"] == ["cat", "dog", "fish"]
    test = metrics["splits"]["test"]
    assert test["micro_f1"] > metrics["baselines"]["majority"]["test"]["micro_f1"] + 0.1
    assert test["subset_accuracy"] == test["accuracy"]
    assert test["mAP_ci95"][0] <= test["mAP"] <= test["mAP_ci95"][1]
    assert metrics["verdict"]["measure"] == "micro_f1"
    assert "of micro-F1" in metrics["verdict"]["sentences"][0]
    assert [run["name"] for run in metrics["seeds"]["runs"]] == ["seed 123", "seed 124"]
    assert "micro_f1" in metrics["seeds"]["mean"]
    assert metrics["decision"].startswith("every label whose probability reaches its threshold: cat 0.")
    page = (run_dir / "report.html").read_text()
    assert "Subset accuracy" in page
    assert "Micro-F1" in page
    assert "any number of 3 labels" in (run_dir / "README.md").read_text()


def test_predictions_stand_beside_the_splits_in_the_same_words(run_dir: Path) -> None:
    truth, predicted = rows_of(run_dir / "splits" / "test.csv"), rows_of(run_dir / "predictions" / "test.csv")
    assert [row["label"] for row in truth] == [row["label"] for row in predicted]
    metrics = json.loads((run_dir / "metrics.json").read_text())["splits"]["test"]
    right = [row["label"] == row["predicted"] for row in predicted]
    assert np.mean(right) == pytest.approx(metrics["accuracy"])
    assert {"baseline tfidf-logreg", "baseline majority"} <= predicted[0].keys()


def test_every_label_answers_from_its_own_threshold_on(run_dir: Path) -> None:
    clf = TextClassifier.load(run_dir)
    texts, _ = sentences(20, seed=9)
    thresholds = dict(json.loads((run_dir / "config.json").read_text())["lasttoken"]["decision"]["thresholds"])
    for found in clf.predict(texts):
        reached = {label for at, label in enumerate(clf.labels) if found.probs[label] >= thresholds[at]}
        assert set(found.labels) == reached
        assert list(found.labels) == sorted(found.labels, key=lambda label: -found.probs[label])
        assert found.label == (found.labels[0] if found.labels else None)
    probs = clf.predict_proba(texts)
    assert not np.allclose(probs.sum(axis=1), 1)


def test_the_command_line_joins_labels_and_takes_other_thresholds(run_dir: Path, tmp_path: Path) -> None:
    text = "; ".join(ANIMALS.values())
    all_of_them = run_cli("predict", run_dir, text, "--threshold", "0.0001")
    assert all_of_them.out.split("\t")[0].count("|") == 2
    assert run_cli("predict", run_dir, text, "--threshold", "0.9999").out.startswith("-\t")
    (found,) = map(
        json.loads, run_cli("predict", run_dir, text, "--threshold", "0.9999,dog=0.0001", "--json").out.splitlines()
    )
    assert found["labels"] == ["dog"]
    source = write_messages(tmp_path / "in.csv", [text, "hm"], ["", ""])
    answer = run_cli("predict", run_dir, "--input", source, "--output", tmp_path / "out.csv", "--threshold", "0.0001")
    assert answer.code == 0, answer.err
    assert rows_of(tmp_path / "out.csv")[0]["predicted_label"].count("|") == 2
    rejected = run_cli("predict", run_dir, text, "--cost", "cat:dog=5")
    assert rejected.code == 2
    assert "--cost" in rejected.err


def test_evaluate_gives_the_run_s_own_figures(run_dir: Path) -> None:
    found = json.loads(run_cli("evaluate", run_dir, run_dir / "splits" / "test.csv", "--json").out)
    recorded = json.loads((run_dir / "metrics.json").read_text())["splits"]["test"]
    for name in ("accuracy", "micro_f1", "macro_f1", "hamming"):
        assert found[name] == pytest.approx(recorded[name], abs=1e-6)
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-4)


def test_evaluate_names_a_label_that_it_does_not_know(run_dir: Path, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "new.csv", ["a", "b"], ["cat", "cat|bird"])
    answer = run_cli("evaluate", run_dir, data)
    assert answer.code == 2
    assert "row 2 of new.csv has label 'bird', which is not one of the classifier's" in answer.err


def test_explaining_a_label_adds_up_to_its_own_log_odds(run_dir: Path) -> None:
    clf = TextClassifier.load(run_dir)
    found = explain(clf._predictor, "a dog barked", label="dog")
    assert found.total == pytest.approx(np.log(found.score) - np.log1p(-found.score), abs=1e-3)
    assert found.gap < 0.1 * max(abs(found.total - found.base), 0.5)


def test_a_killed_training_goes_on(run_dir: Path, data: Path, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    flags = ["--backbone", backbone, "--multi-label", "--epochs", 2, "--out", out]
    assert run_cli("train", data, *flags).code == 0
    whole = json.loads((out / "metrics.json").read_text())
    (out / "metrics.json").unlink()
    answer = run_cli("train", data, *flags, "--resume")
    assert answer.code == 0, answer.err
    assert json.loads((out / "metrics.json").read_text())["splits"] == whole["splits"]


def test_python_takes_lists_of_lists(backbone: Path) -> None:
    texts, sets = sentences(90, seed=2)
    clf = TextClassifier.train(texts, sets, multi_label=True, backbone=str(backbone), epochs=1, offline=True)
    assert clf.metrics["multi_label"]
    assert clf.evaluate(texts[:20], sets[:20])["n"] == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "weights"}, "--balance"),
        ({"cost": "a:b=2"}, "--cost"),
        ({"folds": 5}, "--folds"),
        ({"label_separator": ""}, "--label-separator is ''"),
    ],
)
def test_settings_that_do_not_go_with_it_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve("default", {"multi_label": True}, changes)
    with pytest.raises(SettingsError, match="--recipe"):
        resolve("book", {"multi_label": True})


def test_one_label_data_with_several_a_row_says_what_to_pass(tmp_path: Path, backbone: Path) -> None:
    texts, sets = sentences(9)
    data = write_messages(tmp_path / "few.csv", texts, ["|".join([*one, f"n{at}"]) for at, one in enumerate(sets)])
    answer = run_cli("train", data, "--backbone", backbone, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "pass --multi-label (--label-separator '|')" in answer.err


# The parts ---------------------------------------------------------------------------------------------------------


def splits_of(sizes: Sequence[int]) -> Splits:
    texts, sets = sentences(sum(sizes), seed=5)
    examples, ends = from_lists(texts, sets, separator="|"), np.cumsum(sizes)
    train, validation, test = (
        examples.take(range(end - size, end)) for size, end in zip(sizes, ends.tolist(), strict=True)
    )
    return Splits(train, validation, test)


def test_the_verdict_is_of_micro_f1() -> None:
    random = np.random.default_rng(1)
    truth = random.random((300, 4)) < 0.3
    ours, theirs = truth ^ (random.random((300, 4)) < 0.02), truth ^ (random.random((300, 4)) < 0.3)
    found = judge(MultiLabel(tuple("abcd")), truth, ours, {"tfidf-logreg": theirs})
    assert found is not None
    assert found.p_value is None
    assert found.sentences[0].startswith("The GPT is better than the best baseline, a bag of words (tfidf-logreg), by ")
    assert "points of micro-F1 (" in found.sentences[0]


def test_thresholds_by_name_and_for_all() -> None:
    labels = ("cat", "dog", "fish")
    found = MultiLabel(labels).parse_decision("0.3,dog=0.6", None)
    assert found.decide_each(np.log([[0.31, 0.5, 0.29], [0.1, 0.6, 0.3]])).tolist() == [
        [True, False, False],
        [False, True, True],
    ]
    kept = Decision(thresholds=((1, 0.2),)).over(Decision(thresholds=((0, 0.9), (1, 0.8))))
    assert kept.thresholds == ((0, 0.9), (1, 0.2))


def test_unknown_label_in_a_given_test_split(backbone: Path, tmp_path: Path) -> None:
    texts, sets = sentences(60)
    with pytest.raises(DataError, match="has label 'bird'"):
        TextClassifier.train(
            texts, sets, test=(["a bird"], [["bird"]]), multi_label=True, backbone=str(backbone), epochs=1, offline=True
        )


def test_runs_are_compared_by_micro_f1(run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    rows = rows_of(other / "predictions" / "test.csv")
    with (other / "predictions" / "test.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "predicted"])
        writer.writerows([(row["label"], "cat|dog|fish") for row in rows])
    found = compare_runs([run_dir, other])
    assert found.pairs[0].measure == "micro_f1"
    assert found.pairs[0].p_value is None
    assert found.pairs[0].difference > 0
    assert "points of micro-F1" in found.pairs[0].sentence
