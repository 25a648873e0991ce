"""A study from its rows to its table: resumed row by row, sharing what it can, and refusing what would lose work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lasttoken.core.errors import BackboneError, DivergedError, RunError, SettingsError
from lasttoken.core.locks import exclusive
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.runs import study_training
from lasttoken.runs.choice import plan_training
from lasttoken.runs.study import StudyRequest, run_study
from lasttoken.runs.study_dir import StudyDir
from lasttoken.runs.study_file import Choices, Study, make_study
from lasttoken.runs.train import TrainingRequest, train_run

ROWS: dict[str, dict[str, Any]] = {
    "base": {"train_blocks": 1},
    "two blocks": {"train_blocks": 2},
    "head only": {"train_blocks": "head"},
    "base again": {"train_blocks": 1},
}
SHARED = {"epochs": 1, "learning_rate": 1e-2}
TAIL = {"method": "tail", "depth": "auto", "train_blocks": 1, "epochs": 1}  # its depth is chosen


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    @property
    def trained(self) -> list[str]:
        """The row and seed of each training that ended."""
        return [",".join(said.split(",")[1:3]).partition(":")[0].strip() for said in self.said if "training " in said]


def study_of(
    data: Path, backbone: Path, rows: Mapping[str, Mapping[str, Any]] | None = None, seeds: tuple[int, ...] = (5, 6)
) -> Study:
    shared = {"backbone": str(backbone), **SHARED}
    return make_study("demo", data, seeds, shared, ROWS if rows is None else rows, Choices())


def run(study: Study, out: Path, **changes: Any) -> tuple[dict[str, Any], Listener]:
    listener = Listener()
    return run_study(StudyRequest(study=study, out=out, reporter=listener, **changes)), listener


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path, backbone: Path) -> Path:
    """The folder of a finished study. Read only: copy it before you change it."""
    out = tmp_path_factory.mktemp("study") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(tmp_path_factory.mktemp("study-cache")))
        run(study_of(data, backbone), out)
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_the_table_has_a_line_for_each_row(finished: Path) -> None:
    table = json.loads((finished / "study.json").read_text("utf-8"))
    assert [row["row"] for row in table["rows"]] == list(ROWS)
    base, two, head, again = table["rows"]
    for row in table["rows"]:
        values = [seed["accuracy"] for seed in row["seeds"]]
        assert [seed["seed"] for seed in row["seeds"]] == [5, 6]
        assert row["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
        assert row["metrics"]["accuracy"]["sd"] == pytest.approx(np.std(values, ddof=1))
        low, high = row["metrics"]["accuracy"]["ci95"]
        assert low <= np.mean(values) <= high
    assert head["trained_parameters"] < base["trained_parameters"] < two["trained_parameters"] < two["parameters"]
    assert again["same_as"] == "base"
    assert again["difference"] is None
    assert "difference" not in base
    expected = two["metrics"]["accuracy"]["mean"] - base["metrics"]["accuracy"]["mean"]
    assert two["difference"]["value"] == pytest.approx(expected)
    expected = two["metrics"]["loss"]["mean"] - base["metrics"]["loss"]["mean"]
    assert two["difference"]["loss"] == pytest.approx(expected, abs=1e-6)
    assert set(table["baselines"]) >= {"majority", "tfidf-logreg"}
    assert len(list((finished / "trainings").iterdir())) == 6, "equal rows are trained once"


def test_a_row_equals_a_run_with_its_settings(finished: Path, data: Path, backbone: Path) -> None:
    """With the first seed of the same file: the study cuts the same splits."""
    settings = resolve("default", {"backbone": str(backbone), **SHARED, **ROWS["two blocks"], "seed": 5})
    metrics = train_run(TrainingRequest(data=data, settings=settings)).metrics
    row = json.loads((finished / "study.json").read_text("utf-8"))["rows"][1]
    assert row["seeds"][0]["loss"] == pytest.approx(metrics["splits"]["test"]["loss"], abs=1e-6)
    assert row["seeds"][0]["validation_loss"] == pytest.approx(metrics["splits"]["validation"]["loss"], abs=1e-6)


def test_what_is_there_is_not_trained_again(copied: Path, data: Path, backbone: Path) -> None:
    before = json.loads((copied / "study.json").read_text("utf-8"))
    table, listener = run(study_of(data, backbone), copied, resume=True)
    assert not listener.trained
    assert json.loads(json.dumps(table)) == before


def test_a_killed_study_goes_on_where_it_was(
    tmp_path: Path, finished: Path, data: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0
    train_row = study_training.train_row

    def killed_in_the_third(*arguments: Any) -> Any:
        nonlocal started
        started += 1
        if started == 3:
            raise KeyboardInterrupt
        return train_row(*arguments)

    out = tmp_path / "study"
    with monkeypatch.context() as patch:
        patch.setattr("lasttoken.runs.study.train_row", killed_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            run(study_of(data, backbone), out)
    with pytest.raises(RunError, match="unfinished"):
        run(study_of(data, backbone), out)
    table, listener = run(study_of(data, backbone), out, resume=True)
    assert len(listener.trained) == 4
    whole = json.loads((finished / "study.json").read_text("utf-8"))
    for row, expected in zip(table["rows"], whole["rows"], strict=True):
        assert row["metrics"]["loss"]["mean"] == pytest.approx(expected["metrics"]["loss"]["mean"], abs=1e-6)


def test_a_backbone_with_other_weights_is_another_study(
    copied: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(backbone, tmp_path / "backbone"))
    tensors = load_file(changed / "model.safetensors")
    last = next(name for name in tensors if name.endswith("ln_f.weight"))
    save_file({**tensors, last: tensors[last] + 0.1}, changed / "model.safetensors")
    start = copied / "study.toml"
    text = start.read_text("utf-8")
    start.write_text(text.replace(str(backbone), str(changed)), "utf-8")
    with pytest.raises(RunError, match="other weights of the backbone"):
        run(study_of(data, changed), copied, resume=True)
    assert StudyDir(copied).is_finished
    start.write_text(text.partition("[weights]")[0], "utf-8")  # as an earlier version wrote it
    assert "data_hash" in start.read_text("utf-8")
    assert not run(study_of(data, backbone), copied, resume=True)[1].trained


def test_intervals_stay_within_what_a_metric_can_be(finished: Path) -> None:
    rows = json.loads((finished / "study.json").read_text("utf-8"))["rows"]
    for name, summary in ((name, each) for row in rows for name, each in row["metrics"].items() if each["ci95"]):
        least, most = METRICS[name].range
        assert least <= summary["ci95"][0] <= summary["mean"] <= summary["ci95"][1] <= most, name
    assert any(row["metrics"]["mcc"]["ci95"][0] == -1 for row in rows), "two seeds make intervals this wide"


def test_only_a_changed_row_and_a_new_one_are_trained(copied: Path, data: Path, backbone: Path) -> None:
    rows = {**ROWS, "two blocks": {"train_blocks": 2, "weight_decay": 0.0}, "mean": {"train_blocks": 1, "read": "mean"}}
    table, listener = run(study_of(data, backbone, rows), copied, resume=True)
    assert sorted({trained.partition(", seed")[0] for trained in listener.trained}) == ["mean", "two blocks"]
    assert len(listener.trained) == 4
    assert [row["row"] for row in table["rows"]] == list(rows)


def test_one_more_seed_is_trained_alone(copied: Path, data: Path, backbone: Path) -> None:
    table, listener = run(study_of(data, backbone, {"base": ROWS["base"]}, (5, 6, 7)), copied, resume=True)
    assert listener.trained == ["base, seed 7"]
    assert [seed["seed"] for seed in table["rows"][0]["seeds"]] == [5, 6, 7]


def test_a_finished_study_is_not_lost(copied: Path, data: Path, backbone: Path, tmp_path: Path) -> None:
    study = study_of(data, backbone)
    with pytest.raises(RunError, match="finished"):
        run(study, copied)
    other = tmp_path / "other.csv"
    other.write_text(data.read_text("utf-8").replace("number 1 ", "number 77 "), "utf-8")
    with pytest.raises(RunError, match="other data"):
        run(study_of(other, backbone), copied, resume=True)
    with exclusive(copied), pytest.raises(RunError, match="another process"):
        run(study, copied, resume=True)
    assert StudyDir(copied).is_finished


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"train_blocks": 9}, "--train-blocks"),
        ({"max_length": 1000}, "--max-length"),
        ({"depth": 7, "train_blocks": 1}, "--depth"),
        ({"drop_last": True, "batch_size": 500}, "--batch-size"),
        ({"threshold": "maybe=0.9"}, "maybe"),
        ({"backbone": "no-such-backbone"}, "no-such-backbone"),
        ({"method": "linear", "depth": 9}, "--depth"),
    ],
)
def test_a_row_that_cannot_be_trained_is_found_first(
    tmp_path: Path, data: Path, backbone: Path, row: dict[str, Any], named: str
) -> None:
    shared = {"backbone": str(backbone)}
    study = make_study("demo", data, (5,), shared, {"base": {"train_blocks": 1}, "wrong": row}, Choices())
    with pytest.raises((SettingsError, BackboneError)) as error:
        run(study, tmp_path / "study")
    assert "'wrong'" in str(error.value)
    assert named in str(error.value)
    assert not (tmp_path / "study").exists()


def test_a_row_that_diverges_is_listed_and_the_others_are_trained(
    tmp_path: Path, data: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_row = study_training.train_row

    def diverges(session: Any, *rest: Any) -> Any:
        if session.settings.train_blocks == "2":
            raise DivergedError("the loss of step 3 is nan")
        return train_row(session, *rest)

    monkeypatch.setattr("lasttoken.runs.study.train_row", diverges)
    table, listener = run(study_of(data, backbone, seeds=(5,)), tmp_path / "study")
    assert ["metrics" in row for row in table["rows"]] == [True, False, True, True]
    assert "step 3" in table["rows"][1]["without_results"]
    assert any("two blocks" in said and "step 3" in said for said in listener.said)
    assert "step 3" in (tmp_path / "study" / "study.html").read_text("utf-8")


def test_what_a_row_leaves_open_is_chosen_with_the_first_seed(
    tmp_path: Path, data: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Any] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        plans.append(plan_training(*arguments, **named))
        return plans[-1]

    monkeypatch.setattr("lasttoken.runs.study_training.plan_training", counted)
    shared = {"backbone": str(backbone), "ngrams": "none"}
    rows: dict[str, dict[str, Any]] = {"linear": {"method": "linear"}, "tail": TAIL}
    study = make_study("demo", data, (5, 6), shared, rows, Choices())
    table, _ = run(study, tmp_path / "study")
    assert len(plans) == 2
    assert all("chosen on" in row["chosen"] for row in table["rows"])
    settings = resolve("default", {**shared, "method": "linear", "seed": 5})
    metrics = train_run(TrainingRequest(data=data, settings=settings)).metrics
    assert table["rows"][0]["seeds"][0]["loss"] == pytest.approx(metrics["splits"]["test"]["loss"], abs=1e-6)
    table, listener = run(study, tmp_path / "study", resume=True)
    assert not listener.trained
    assert len(plans) == 2


def test_rows_whose_backbone_is_not_at_hand_are_skipped(tmp_path: Path, data: Path, backbone: Path) -> None:
    rows: dict[str, dict[str, Any]] = {"small": {"train_blocks": 1}, "xl": {"backbone": "gpt2-xl", "train_blocks": 1}}
    study = replace(study_of(data, backbone, rows, (5,)), skips_missing=True)
    table, _ = run(study, tmp_path / "study")
    assert "gpt2-xl" in table["rows"][1]["without_results"]
    with pytest.raises(SettingsError, match="gpt2-xl"):
        run(replace(study, rows=study.rows[1:]), tmp_path / "other")
