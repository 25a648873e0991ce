"""Depth, pooling and method chosen on train and validation; test is never read."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from miniature import messages, random_gpt, run_cli, write_backbone, write_messages
from run_folders import read_metrics, settings_of

from lasttoken.core.device import CPU
from lasttoken.core.resolve import resolve
from lasttoken.data.frames import from_lists
from lasttoken.data.splitting.splits import Splits
from lasttoken.estimator import TextClassifier
from lasttoken.runs import choice, fitting
from lasttoken.runs.choice import Candidate, Plan, plan_training, some_rows
from lasttoken.training import label_words


def train(data: Path, backbone: Path, out: Path, *flags: object) -> dict[str, Any]:
    answer = run_cli("train", data, "--backbone", backbone, "--out", out, *flags)
    assert answer.code == 0, answer.err
    return read_metrics(out) | {"said": answer.err}


@pytest.fixture(scope="module")
def splits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    texts, labels = messages(120)
    for name, rows in (("train", slice(0, 60)), ("validation", slice(60, 90)), ("test", slice(90, 120))):
        write_messages(folder / f"{name}.csv", texts[rows], labels[rows])
    return folder


@pytest.mark.parametrize("method", ["linear", "auto"])
def test_what_is_chosen_is_the_best_candidate_and_the_saved_classifier_is_that(
    method: str, splits_dir: Path, backbone: Path, tmp_path: Path
) -> None:
    metrics = train(splits_dir, backbone, tmp_path / "run", "--method", method)
    record = metrics["choice"]
    candidates = [Candidate(**each) for each in record["candidates"]]
    assert {(each.depth, each.read) for each in candidates} >= {(d, r) for d in (1, 2, 3) for r in ("last", "mean")}
    assert {each.method for each in candidates} == ({"linear", "tail"} if method == "auto" else {"linear"})
    chosen = Candidate(**record["chosen"])
    assert chosen in (candidates[-2:] if method == "auto" else candidates[-1:])
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert config["n_layer"] == chosen.depth
    assert config["lasttoken"]["read"] == chosen.read
    assert (config["lasttoken"]["train_blocks"] == "head") == (chosen.method == "linear")
    assert "chosen on validation" in metrics["said"]
    assert settings_of(tmp_path / "run")["depth"] == "auto"
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text("utf-8").splitlines()]
    assert all("C" in line for line in lines) == (chosen.method == "linear")


def test_the_tail_wins_where_it_validates_better(
    splits_dir: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trunk ends where the linear head reads, so one pass serves both."""
    monkeypatch.setattr(fitting, "_is_clearly_better", lambda linear, tail: False)
    flags = ("--method", "auto", "--read", "mean", "--train-blocks", 1, "--epochs", 2)
    chosen = train(splits_dir, backbone, tmp_path / "run", *flags)["choice"]["chosen"]
    assert (chosen["method"], chosen["read"]) == ("tail", "mean")
    loaded = TextClassifier.load(tmp_path / "run")
    assert loaded.predict(["win a prize"])[0].label in ("ham", "spam")
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert config["lasttoken"]["train_blocks"] == "1"


def test_lora_is_compared_where_it_is_asked_for(splits_dir: Path, backbone: Path, tmp_path: Path) -> None:
    flags = ("--method", "auto", "--lora-rank", 2, "--lora-blocks", 1, "--epochs", 1)
    metrics = train(splits_dir, backbone, tmp_path / "run", *flags)
    last = [Candidate(**each) for each in metrics["choice"]["candidates"][-2:]]
    assert [(each.method, each.lora_rank) for each in last] == [("linear", None), ("tail", 2)]
    assert "LoRA of rank 2" in metrics["said"]
    assert "LoRA of rank 2" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("trained", [1, 2])
def test_the_linear_head_beside_a_tail_reads_what_it_would_read_alone(
    trained: int, splits_dir: Path, backbone: Path
) -> None:
    """Features of the tail's trunk, its next blocks if need be, and pooling give those of the shorter classifier."""
    from lasttoken.core.columns import UNNAMED
    from lasttoken.core.progress import Reporter
    from lasttoken.data.folders import read_splits
    from lasttoken.runs.session import open_session

    splits = read_splits(splits_dir, UNNAMED)
    given = {"backbone": str(backbone), "depth": "3", "read": "last+mean", "no_cache": True}
    tail = resolve("default", {**given, "train_blocks": str(trained)})
    linear = dataclasses.replace(tail, method="linear", train_blocks="head", depth="2")
    session = open_session(splits, tail, CPU)
    alone = open_session(splits, linear, CPU).features(Reporter())
    for name, split in session.features(Reporter()).items():
        rows = list(range(len(split)))
        found = fitting.read_features(session, split, 2, "last+mean")
        np.testing.assert_allclose(found, alone[name].source.batch(rows)[0].numpy(), atol=1e-5)


def test_the_linear_head_beside_a_tail_needs_no_trunk_of_its_own(
    splits_dir: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the tail's trunk ends before the depth that the linear head reads at."""
    from lasttoken.core.columns import UNNAMED
    from lasttoken.core.progress import Reporter
    from lasttoken.data.folders import read_splits
    from lasttoken.runs.session import open_session
    from lasttoken.training.features import TrunkPass

    given = {"backbone": str(backbone), "depth": "3", "read": "mean", "no_cache": True}
    asked = resolve("default", {**given, "train_blocks": "2"})
    linear = dataclasses.replace(asked, method="linear", train_blocks="head")
    session = open_session(read_splits(splits_dir, UNNAMED), asked, CPU)
    features = session.features(Reporter())
    monkeypatch.setattr(TrunkPass, "source", lambda *args: pytest.fail("the trunk ran again"))
    assert fitting.fit_beside(Plan(asked, linear, asked), session, features).outcome.history


@pytest.mark.parametrize("method", ["linear", "auto"])
def test_the_test_split_changes_nothing(method: str, splits_dir: Path, backbone: Path, tmp_path: Path) -> None:
    """Other texts and labels in test: the same choice, the same weights, to the last bit."""
    other = tmp_path / "other"
    shutil.copytree(splits_dir, other)
    write_messages(other / "test.csv", ["win win win", "hello there", "lunch"], ["ham", "spam", "spam"])
    runs = []
    for name, data in (("a", splits_dir), ("b", other)):
        metrics = train(data, backbone, tmp_path / name, "--method", method)
        chosen = {key: value for key, value in metrics["choice"]["chosen"].items() if key != "seconds"}
        files = sorted(path for path in (tmp_path / name).iterdir() if path.stem in ("model", "config", "ngrams"))
        record = {key: metrics["ngrams"].get(key) for key in ("kept", "weight", "kind", "candidates", "reason")}
        runs.append((chosen, record, {path.name: path.read_bytes() for path in files}))
    assert runs[0] == runs[1]
    assert runs[0][1]["candidates"], "a weight of n-grams was fitted"


def test_few_rows_are_held_out_in_folds_and_all_of_them_are_fitted(backbone: Path, tmp_path: Path) -> None:
    """The calibration, and the metrics of validation, come from heads that were not fitted to the row."""
    data = write_messages(tmp_path / "few.csv", *messages(40))
    metrics = train(data, backbone, tmp_path / "run", "--method", "auto")
    assert metrics["choice"]["held_out"] == "folds of train and validation"
    assert metrics["choice"]["chosen"]["method"] == "linear", "a tail needs more rows"
    tried = {each.get("label_words") for each in metrics["choice"]["candidates"]}
    assert tried == {None, *label_words.SCALES}
    assert set(metrics["baselines"]) >= {"majority", "tfidf-logreg"}


def test_two_rows_a_label_are_enough(backbone: Path, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "train.csv", *messages(4))
    test = write_messages(tmp_path / "test.csv", *messages(30))
    metrics = train(data, backbone, tmp_path / "run", "--method", "linear", "--test", test)
    assert metrics["examples"]["train"] + metrics["examples"]["validation"] == 4
    assert metrics["choice"]["chosen"]["method"] == "linear"


def test_a_resumed_run_trains_what_it_had_chosen(splits_dir: Path, backbone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = train(splits_dir, backbone, run, "--method", "auto", "--epochs", 2)
    weights = (run / "model.safetensors").read_bytes()
    for name in ("metrics.json", "model.safetensors"):
        (run / name).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice._Explorer, "explore", lambda self: pytest.fail("it was chosen before"))
        answer = run_cli("train", "--resume", "--out", run)
    assert answer.code == 0, answer.err
    assert (run / "model.safetensors").read_bytes() == weights
    chosen = [{**each["choice"]["chosen"], "seconds": 0} for each in (first, read_metrics(run))]
    assert chosen[0] == chosen[1]


def test_further_trainings_use_the_method(data: Path, backbone: Path, tmp_path: Path) -> None:
    flags = ("--method", "linear", "--depth", 2, "--read", "mean", "--folds", 2, "--seeds", 2, "--learning-curve")
    metrics = train(data, backbone, tmp_path / "run", *flags)
    assert "choice" not in metrics, "nothing was left open"
    assert len(metrics["folds"]["runs"]) == 2
    assert len(metrics["learning_curve"]["points"]) == 5
    assert metrics["seeds"]["sd"]["accuracy"] == 0, "a logistic regression has one solution"


def test_several_labels_and_label_errors_work(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    both = [label if row % 3 else f"{label}|other" for row, label in enumerate(labels)]
    several = TextClassifier.train(
        texts, [each.split("|") for each in both], multi_label=True, method="linear", backbone=str(backbone)
    )
    assert "micro_f1" in several.metrics["splits"]["test"]
    data = write_messages(tmp_path / "messages.csv", texts, labels)
    answer = run_cli("suspects", data, "--backbone", backbone, "--method", "auto", "--out", tmp_path / "s.csv")
    assert answer.code == 0, answer.err
    assert "were chosen" in answer.err


def test_exports_and_explanations_know_nothing_of_the_method(splits_dir: Path, backbone: Path, tmp_path: Path) -> None:
    flags = ("--method", "linear", "--read", "last", "--depth", 2, "--ngrams", "none")
    train(splits_dir, backbone, tmp_path / "run", *flags)
    for command in (
        ("explain", tmp_path / "run", "win a prize"),
        ("evaluate", tmp_path / "run", splits_dir / "test.csv"),
    ):
        answer = run_cli(*command)
        assert answer.code == 0, answer.err
    assert run_cli("export", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "onnx").code == 0


def test_a_part_of_the_rows_has_every_label() -> None:
    texts = [f"text {row}" for row in range(100)]
    examples = from_lists(texts, ["a"] * 97 + ["b", "c", "d"])
    rows = some_rows(examples, 10, 1)
    assert rows == sorted(set(rows))
    assert len(rows) <= 13
    assert {97, 98, 99} <= set(rows)
    assert some_rows(examples, 100, 1) == list(range(100))


def test_a_plan_survives_its_record(backbone: Path) -> None:
    texts, labels = messages(60)
    splits = Splits(from_lists(texts[:40], labels[:40]), from_lists(texts[40:], labels[40:]), None)
    for method in ("linear", "auto", "tail"):
        asked = resolve("default", {"method": method, "depth": "auto", "backbone": str(backbone)})
        plan = plan_training(splits, asked, CPU)
        import tomllib

        content = tomllib.loads(tomli_w.dumps(plan.to_toml()))
        again = Plan.recorded(asked, content)
        assert (again.linear, again.tail, again.candidates) == (plan.linear, plan.tail, plan.candidates)
        assert (plan.linear is None, plan.tail is None) == (method == "tail", method == "linear")


def test_a_deep_backbone_is_loaded_only_as_far_as_it_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_backbone(tmp_path / "deep", random_gpt(n_layer=14, n_embd=16))
    monkeypatch.setattr("lasttoken.training.depths.MOST_DEPTHS", 3)
    monkeypatch.setattr("lasttoken.training.depths.LAST", 0.7)
    texts, labels = messages(60)
    trained = TextClassifier.train(texts, labels, backbone=str(folder), method="linear")
    depths = {each["depth"] for each in trained.metrics["choice"]["candidates"]}
    assert depths == {4, 7, 10}
