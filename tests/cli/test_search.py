"""`lasttoken search`: an ordinary run with its trials, honest about what it found; mistakes come first."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from miniature import messages, run_cli, write_messages
from run_folders import read_metrics, rows_of, settings_of

from lasttoken.runs.search import decision, trials

FLAGS = ("--method", "tail", "--train-blocks", 1, "--epochs", 1, "--ngrams", "none", "--offline")


@pytest.fixture(scope="module")
def splits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    texts, labels = messages(90)
    for name, rows in (("train", slice(0, 50)), ("validation", slice(50, 70)), ("test", slice(70, 90))):
        write_messages(folder / f"{name}.csv", texts[rows], labels[rows])
    return folder


def search(data: Path, backbone: Path, out: Path, *flags: object, n: int = 4) -> dict[str, Any]:
    answer = run_cli("search", data, "--backbone", backbone, "--out", out, "--trials", n, *FLAGS, *flags)
    assert answer.code == 0, answer.err
    return read_metrics(out) | {"said": answer.err, "printed": answer.out}


@pytest.fixture(scope="module")
def run(splits_dir: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that keeps the default settings, because nothing is significant."""
    out = tmp_path_factory.mktemp("search") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision, "LEVEL", 1e-9)
        search(splits_dir, backbone, out)
    return out


def test_it_ends_as_an_ordinary_run_with_its_trials(run: Path) -> None:
    assert run_cli("predict", run, "win a prize").code == 0
    record = read_metrics(run)["search"]
    assert record["kept"] == "default"
    assert "nothing better" in record["sentence"]
    assert record["test"] is None, "the settings found are not judged where they are not kept"
    table = rows_of(run / "trials.csv")
    assert [int(row["trial"]) for row in table] == [each["number"] for each in record["trials"]]
    assert len(table) == 4
    assert table[0]["default"] == "1"
    assert {row["epochs"] for row in table} == {"1"}, "what is given is fixed"
    assert "Search for better settings" in (run / "report.html").read_text("utf-8")
    assert "## Search" in (run / "README.md").read_text("utf-8")
    assert settings_of(run)["train_blocks"] == "1"
    assert (run / "trials.sqlite3").is_file()


def test_the_test_split_changes_no_trial_and_settings_that_are_found_are_kept(
    run: Path, splits_dir: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other texts and labels in test, and a rule that takes anything better on held-out rows."""
    other = tmp_path / "other"
    shutil.copytree(splits_dir, other)
    write_messages(other / "test.csv", ["win win win", "hello there", "lunch"], ["ham", "spam", "spam"])
    monkeypatch.setattr(decision.Decision, "takes_found", property(lambda self: True))
    metrics = search(other, backbone, tmp_path / "run")
    before, after = (read_metrics(folder)["search"]["trials"] for folder in (run, tmp_path / "run"))
    assert [each["value"] for each in before] == [each["value"] for each in after]
    record = metrics["search"]
    assert record["kept"] == "found"
    best = record["trials"][record["best"]]
    used = settings_of(tmp_path / "run")
    assert {name: used[name] for name in best["settings"]} == best["settings"]
    assert record["test"]["n"] == 3
    assert record["test"]["ci95"][0] <= record["test"]["difference"] <= record["test"]["ci95"][1]
    assert "the settings found" in record["sentence"]
    assert record["sentence"] in metrics["printed"]


def test_a_killed_search_goes_on_where_it_was(
    run: Path, splits_dir: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "run", iter([True, True])
    run_one = trials.Trials._run_one

    def killed(self: trials.Trials, *arguments: Any) -> bool:
        if not next(left, False):
            raise KeyboardInterrupt
        return run_one(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trials.Trials, "_run_one", killed)
        answer = run_cli("search", splits_dir, "--backbone", backbone, "--out", out, "--trials", 5, *FLAGS)
    assert answer.code == 130
    assert "--resume" in answer.err
    assert sorted(path.name for path in out.iterdir()) == ["trials.sqlite3"]
    monkeypatch.setattr(decision, "LEVEL", 1e-9)
    metrics = search(splits_dir, backbone, out, "--resume", n=3)
    assert "resumed after 2 of 3" in metrics["said"]
    first = [each["value"] for each in read_metrics(run)["search"]["trials"]]
    assert [each["value"] for each in metrics["search"]["trials"]][:2] == first[:2]
    again = run_cli("search", splits_dir, "--backbone", backbone, "--out", out, "--resume", *FLAGS)
    assert again.code == 2
    assert "is finished" in again.err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--trials", 0), "--trials is 0"),
        (("--minutes", -1), "--minutes is -1"),
        (("--method", "linear", "--depth", 2, "--read", "mean"), "--depth"),
        (("--recipe", "book"), "--recipe"),
        (("--learning-rate", 0), "--learning-rate"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    flags: tuple[object, ...], named: str, data: Path, backbone: Path, tmp_path: Path
) -> None:
    answer = run_cli("search", data, "--backbone", backbone, "--out", tmp_path / "run", *flags)
    assert answer.code == 2
    assert named in answer.err
    assert answer.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_optuna_the_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else find(name, *a))
    answer = run_cli("search", data, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "[search]" in answer.err
    assert not list(tmp_path.iterdir())


def test_no_rows_and_another_run_in_the_folder_are_rejected(run: Path, backbone: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    with empty.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(("text", "label"))
    for data, out, named in ((empty, tmp_path / "new", "empty.csv"), (run / "splits", run, "--overwrite")):
        answer = run_cli("search", data, "--backbone", backbone, "--out", out)
        assert answer.code == 2
        assert named in answer.err
    answer = run_cli("search", tmp_path / "absent.csv", "--backbone", backbone, "--out", tmp_path / "new")
    assert answer.err.startswith("error: there is no file"), "nothing is announced before"
    assert json.loads((run / "metrics.json").read_text("utf-8"))["search"]
    assert not (tmp_path / "new").exists()
