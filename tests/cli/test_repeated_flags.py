"""A flag that takes one value is rejected when it is given twice; several --label with --multi-label are multi-hot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import run_cli


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (("train", "x.csv", "--epochs", 1, "--epochs", 2), "--epochs"),
        (("train", "x.csv", "--test", "a.csv", "--test=b.csv"), "--test"),
        (("predict", "run", "--input", "a.csv", "--input", "b.csv"), "--input"),
        (("evaluate", "run", "a.csv", "--threshold", "0.5", "--threshold", "0.9"), "--threshold"),
        (("audit", "x.csv", "--backbone", "gpt2-xl", "--backbone", "gpt2"), "--backbone"),
        (("ask", "gpt2", "a.csv", "--answers", "a=1,b=2", "--answers", "a=2,b=1"), "--answers"),
        (("generate", "gpt2", "hi", "--seed", 1, "--seed", 2), "--seed"),
    ],
)
def test_a_repeated_flag_of_a_single_value_is_rejected(command: tuple[object, ...], flag: str) -> None:
    answer = run_cli(*command)
    assert answer.code == 2
    assert f"{flag} is given 2 times" in answer.err


def test_switches_may_be_repeated() -> None:
    assert "times" not in run_cli("train", "none.csv", "--quiet", "--quiet").err


@pytest.mark.parametrize("command", ["train", "split"])
def test_several_labels_without_multi_label_are_rejected(tmp_path: Path, command: str) -> None:
    (tmp_path / "a.csv").write_text("text,kitchen,garden\nx,1,0\n", "utf-8")
    answer = run_cli(command, tmp_path / "a.csv", "--label", "kitchen", "--label", "garden")
    assert answer.code == 2
    assert "'kitchen', 'garden'" in answer.err
    assert "--multi-label" in answer.err
    twice = run_cli(command, tmp_path / "a.csv", "--label", "kitchen", "--label", "kitchen", "--multi-label")
    assert twice.code == 2
    assert "'kitchen'" in twice.err


def test_multi_hot_columns_from_training_to_evaluation(tmp_path: Path, backbone: Path) -> None:
    rows = [(f"the {'oven' if row % 2 else 'hose'} {row}", row % 2, 1 - row % 2, row % 3 == 0) for row in range(60)]
    lines = [f"{text},{kitchen},{garden},{int(loud)}\n" for text, kitchen, garden, loud in rows]
    data, run = tmp_path / "data.csv", tmp_path / "run"
    data.write_text("comment_text,kitchen,garden,loud\n" + "".join(lines), "utf-8")
    labels = ("--label", "kitchen", "--label", "garden", "--label", "loud")
    flags = ("--multi-label", "--text", "comment_text", "--backbone", backbone, "--epochs", 1, "--no-cache")
    assert run_cli("train", data, *labels, *flags, "--out", run).code == 0
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["lasttoken"]["labels"] == ["garden", "kitchen", "loud"]
    own = run_cli("evaluate", run, data, "--json")
    assert own.code == 0, own.err
    assert json.loads(own.out)["n"] == 60
    assert {name: found["n"] for name, found in json.loads(own.out)["per_label"].items()} == {
        "garden": 30, "kitchen": 30, "loud": 20,
    }  # fmt: skip
    data.write_text("comment_text,kitchen,garden\nx,1,0\n", "utf-8")
    missing = run_cli("evaluate", run, data)
    assert missing.code == 2
    assert "'loud'" in missing.err


def test_labels_of_a_config_file_are_a_name_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,kitchen,garden\n" + "x,1,0\ny,0,1\n", "utf-8")
    (tmp_path / "a.toml").write_text('label = ["kitchen", "nope"]\nmulti_label = true\n', "utf-8")
    answer = run_cli("train", tmp_path / "a.csv", "--config", tmp_path / "a.toml")
    assert "'nope'" in answer.err
    (tmp_path / "a.toml").write_text('label = "nope"\n', "utf-8")
    assert "'nope'" in run_cli("train", tmp_path / "a.csv", "--config", tmp_path / "a.toml").err
