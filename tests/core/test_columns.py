"""The columns of a training travel with its classifier: predict, evaluate and Python read the same ones."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w
from miniature import random_gpt, run_cli, write_backbone

from lasttoken import TextClassifier
from lasttoken.core.errors import DataError
from lasttoken.data.tables.options import ReadOptions

WORDS = {"kitchen": ("kettle", "pan", "oven", "whisk"), "garden": ("hose", "rake", "spade", "hedge")}


def text_of(label: str, number: int) -> str:
    words = WORDS[label]
    return f"{words[number % 4]} {words[number // 4 % 4]} {number}"


def frame_of(n: int) -> pd.DataFrame:
    """Titles and categories say the opposite of abstracts and fields: the wrong column gives wrong answers."""
    labels = [("kitchen", "garden")[row % 2] for row in range(n)]
    others = [("garden", "kitchen")[row % 2] for row in range(n)]
    return pd.DataFrame(
        {
            "title": [text_of(label, row + 1000) for row, label in enumerate(others)],
            "abstract": [text_of(label, row) for row, label in enumerate(labels)],
            "category": others,
            "field": labels,
        }
    )


FRAME = frame_of(60)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("gpt"), random_gpt(n_positions=64))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.csv"
    FRAME.to_csv(path, index=False)
    return path


def train_cli(data: Path, out: Path, backbone: Path, *flags: object) -> Path:
    fast = ("--epochs", 3, "--no-cache", "--backbone", backbone, "--learning-rate", 1e-2)
    answer = run_cli("train", data, "--out", out, *fast, *flags)
    assert answer.code == 0, answer.err
    return out


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, data: Path, backbone: Path) -> Path:
    """Trained on abstract and field. Read only."""
    return train_cli(data, tmp_path_factory.mktemp("runs") / "run", backbone, "--text", "abstract", "--label", "field")


@pytest.fixture(scope="module")
def trained(run_dir: Path) -> TextClassifier:
    return TextClassifier.load(run_dir)


def answers(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["predicted_label"] for row in csv.DictReader(file)]


@pytest.fixture
def old_run(run_dir: Path, tmp_path: Path) -> Path:
    """The run as an earlier version left it: without its columns, but with the settings it was started with."""
    old = shutil.copytree(run_dir, tmp_path / "old")
    config = json.loads((old / "config.json").read_text("utf-8"))
    del config["lasttoken"]["columns"]
    (old / "config.json").write_text(json.dumps(config), "utf-8")
    recorded = tomllib.loads((old / "run.toml").read_text("utf-8"))
    del recorded["columns"]
    recorded["settings"]["label"] = "field"  # one name was a string
    (old / "run.toml").write_text(tomli_w.dumps(recorded), "utf-8")
    return old


@pytest.fixture(scope="module")
def right(trained: TextClassifier) -> list[str]:
    """The answers to the abstracts, given as a list."""
    found = labels_of(trained.predict(FRAME["abstract"].tolist()))
    assert found != labels_of(trained.predict(FRAME["title"].tolist()))
    assert share(found) > 0.7
    return found


def share(found: list[str]) -> float:
    """How many answers are the label."""
    return sum(map(str.__eq__, found, FRAME["field"])) / len(found)


def labels_of(found: Any) -> list[str]:
    return [prediction.label for prediction in found]


# The command line -------------------------------------------------------------------------------------------------


def test_the_columns_of_the_training_are_in_config_json(run_dir: Path) -> None:
    config = json.loads((run_dir / "config.json").read_text("utf-8"))
    assert config["lasttoken"]["columns"] == {"text": ["abstract"], "label": ["field"]}


def test_predict_reads_the_text_column_of_the_training(
    run_dir: Path, data: Path, tmp_path: Path, right: list[str]
) -> None:
    own, named = tmp_path / "own.csv", tmp_path / "named.csv"
    assert run_cli("predict", run_dir, "--input", data, "--output", own).code == 0
    assert run_cli("predict", run_dir, "--input", data, "--output", named, "--text", "abstract").code == 0
    assert answers(own) == answers(named) == right
    streamed = run_cli("predict", run_dir, "--input", data, "--quiet")
    assert [row["predicted_label"] for row in csv.DictReader(streamed.out.splitlines())] == answers(own)


def test_a_flag_wins_over_the_columns_of_the_training(
    run_dir: Path, data: Path, tmp_path: Path, right: list[str]
) -> None:
    out = tmp_path / "out.csv"
    assert run_cli("predict", run_dir, "--input", data, "--output", out, "--text", "title").code == 0
    assert answers(out) != right


def test_runs_of_earlier_versions_use_the_columns_they_were_started_with(
    old_run: Path, data: Path, tmp_path: Path, right: list[str]
) -> None:
    out = tmp_path / "out.csv"
    assert run_cli("predict", old_run, "--input", data, "--output", out).code == 0
    assert answers(out) == right
    assert json.loads(run_cli("evaluate", old_run, data, "--json").out)["accuracy"] == share(right)


def test_evaluate_reads_text_and_label_where_the_training_did(run_dir: Path, data: Path, right: list[str]) -> None:
    own = run_cli("evaluate", run_dir, data, "--json")
    assert json.loads(own.out)["accuracy"] == share(right)
    other = run_cli("evaluate", run_dir, data, "--json", "--label", "category")
    assert json.loads(other.out)["accuracy"] == pytest.approx(1 - share(right))


def test_a_name_that_differs_by_case_is_taken_and_said(run_dir: Path, tmp_path: Path, right: list[str]) -> None:
    FRAME.rename(columns={"abstract": " Abstract"}).to_csv(tmp_path / "new.csv", index=False)
    answer = run_cli("predict", run_dir, "--input", tmp_path / "new.csv", "--output", tmp_path / "out.csv")
    assert answers(tmp_path / "out.csv") == right
    assert "' Abstract'" in answer.err
    assert "'abstract'" in answer.err


@pytest.mark.parametrize("name", ["ABSTRACT_", "abs-tract", "Ab stract"])
def test_a_name_that_differs_by_spaces_or_signs_is_taken_and_said(
    run_dir: Path, tmp_path: Path, right: list[str], name: str
) -> None:
    FRAME.rename(columns={"abstract": name}).to_csv(tmp_path / "new.csv", index=False)
    answer = run_cli("predict", run_dir, "--input", tmp_path / "new.csv", "--output", tmp_path / "out.csv")
    assert answers(tmp_path / "out.csv") == right
    assert repr(name) in answer.err


def test_two_columns_that_may_be_the_trainings_are_named(run_dir: Path, tmp_path: Path) -> None:
    FRAME.rename(columns={"abstract": "Abstract", "title": "ABSTRACT"}).to_csv(tmp_path / "new.csv", index=False)
    for command in (("predict", run_dir, "--input", tmp_path / "new.csv"), ("evaluate", run_dir, tmp_path / "new.csv")):
        answer = run_cli(*command)
        assert answer.code == 2
        assert all(name in answer.err for name in ("'Abstract'", "'ABSTRACT'", "--text"))


def test_a_file_with_none_of_the_columns_is_guessed_and_said(run_dir: Path, tmp_path: Path) -> None:
    FRAME[["title"]].assign(n=1).to_csv(tmp_path / "new.csv", index=False)
    answer = run_cli("predict", run_dir, "--input", tmp_path / "new.csv", "--output", tmp_path / "out.csv")
    assert answer.code == 0
    assert "'abstract'" in answer.err
    assert "'title'" in answer.err


def test_a_label_column_of_another_name_is_not_taken_because_it_is_left(run_dir: Path, tmp_path: Path) -> None:
    FRAME[["abstract"]].assign(second_choice=FRAME["field"]).to_csv(tmp_path / "new.csv", index=False)
    answer = run_cli("evaluate", run_dir, tmp_path / "new.csv")
    assert answer.code == 2
    assert "'second_choice'" in answer.err
    assert "--label" in answer.err


def test_some_of_several_text_columns_are_rejected(data: Path, tmp_path: Path, backbone: Path) -> None:
    run = train_cli(data, tmp_path / "run", backbone, "--text", "title", "--text", "abstract", "--label", "field")
    joined = "\n\n".join((FRAME["title"][0], FRAME["abstract"][0]))
    out = tmp_path / "out.csv"
    assert run_cli("predict", run, "--input", data, "--output", out).code == 0
    assert answers(out)[0] == TextClassifier.load(run).predict(joined)[0].label
    FRAME[["title", "field"]].to_csv(tmp_path / "new.csv", index=False)
    for command in (("predict", run, "--input", tmp_path / "new.csv"), ("evaluate", run, tmp_path / "new.csv")):
        answer = run_cli(*command)
        assert answer.code == 2
        assert "'abstract'" in answer.err


# Python -----------------------------------------------------------------------------------------------------------


def test_a_frame_is_read_by_the_columns_of_the_training(
    trained: TextClassifier, data: Path, tmp_path: Path, right: list[str]
) -> None:
    assert labels_of(trained.predict(FRAME)) == right
    assert labels_of(trained.predict(FRAME, text="title")) != right
    assert (trained.predict_proba(FRAME) == trained.predict_proba(FRAME["abstract"])).all()
    assert trained.evaluate(FRAME)["accuracy"] == share(right)
    assert trained.evaluate(FRAME, label="category")["accuracy"] == pytest.approx(1 - share(right))
    trained.predict_file(data, tmp_path / "out.csv")
    assert answers(tmp_path / "out.csv") == right


def test_a_guess_in_python_is_a_warning(trained: TextClassifier) -> None:
    with pytest.warns(UserWarning, match="'title'"):
        trained.predict(FRAME[["title", "field"]])
    with pytest.raises(DataError, match="text="):
        trained.predict(FRAME["title"], text="title")


def test_columns_of_a_frame_may_be_numbers(backbone: Path) -> None:
    frame = pd.DataFrame({0: FRAME["title"], 1: FRAME["abstract"], 2: FRAME["field"]})
    found = TextClassifier.train(
        frame, text=1, label=2, backbone=str(backbone), epochs=3, no_cache=True, learning_rate=1e-2
    )
    assert labels_of(found.predict(frame)) == labels_of(found.predict(FRAME["abstract"]))


def test_evaluate_in_python_takes_a_file(trained: TextClassifier, data: Path, tmp_path: Path, right: list[str]) -> None:
    assert trained.evaluate(data)["accuracy"] == trained.evaluate(str(data))["accuracy"] == share(right)
    FRAME.to_csv(tmp_path / "wide.csv", index=False, encoding="utf-16-le", sep=";")
    options = ReadOptions(encoding="utf-16-le", separator=";")
    assert trained.evaluate(tmp_path / "wide.csv", options=options)["accuracy"] == share(right)
    assert trained.evaluate(data, label="category")["accuracy"] == pytest.approx(1 - share(right))
    with pytest.raises(DataError, match="predict_file"):
        trained.predict(data)
