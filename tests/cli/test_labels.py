"""Commands on files as people have them: labels in several spellings, blank rows, labels with a row or two."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from miniature import messages, run_cli, write_messages


def quick(*arguments: object) -> tuple[object, ...]:
    return (*arguments, "--epochs", 1, "--learning-rate", 1e-2)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def untidy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 messages: spam and ham in turn, some in another spelling, one row blank, one label with a single row."""
    texts, labels = messages(100)
    labels[4], labels[6], labels[9] = f"{labels[4]}\u200b", f" {labels[6]}", "net"
    texts[20] = "\u200b"
    return write_messages(tmp_path_factory.mktemp("untidy") / "untidy.csv", texts, labels)


@pytest.fixture(scope="module")
def untidy_run(tmp_path_factory: pytest.TempPathFactory, untidy: Path, backbone: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "untidy"
    repeats = ("--folds", 3, "--learning-curve", "--seeds", 2, "--balance", "weights")
    answer = run_cli(*quick("train", untidy, "--backbone", backbone, "--out", out, *repeats))
    assert answer.code == 0, answer.err
    assert "'net'" in answer.err
    assert "row 21 (line 22) of untidy.csv" in answer.err
    return out


def test_train_keeps_one_spelling_and_says_what_it_did(untidy_run: Path) -> None:
    metrics = json.loads((untidy_run / "metrics.json").read_text("utf-8"))
    assert metrics["labels"] == ["ham", "net", "spam"]
    assert metrics["data"]["left_out"] == [{"source": "untidy.csv", "rows": 100, "no_text": 1, "no_label": 0}]
    assert metrics["data"]["labels_in_train_only"] == {"net": 1}
    assert sum(map(len, (fact["spellings"] for fact in metrics["data"]["merged_labels"]))) == 3
    assert metrics["folds"]["n_not_tested"] == 1
    assert metrics["folds"]["all_rows"]["n"] == 98
    assert sum(metrics["examples"].values()) == 99
    report = (untidy_run / "report.html").read_text("utf-8")
    assert "row 21 (line 22) of untidy.csv" in report


def test_resume_reports_the_rows_that_were_left_out(tmp_path: Path, untidy: Path, backbone: Path) -> None:
    out = tmp_path / "run"
    run_cli(*quick("train", untidy, "--backbone", backbone, "--out", out))
    before = json.loads((out / "metrics.json").read_text("utf-8"))["data"]
    (out / "metrics.json").unlink()
    answer = run_cli("train", "--resume", "--out", out)
    assert answer.code == 0, answer.err
    assert json.loads((out / "metrics.json").read_text("utf-8"))["data"] == before


@pytest.mark.parametrize("command", ["train", "split", "suspects"])
def test_strict_stops_at_the_first(tmp_path: Path, untidy: Path, command: str) -> None:
    answer = run_cli(command, untidy, "--strict", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "row 21 (line 22) of untidy.csv" in answer.err


def test_min_rows(tmp_path: Path, untidy: Path) -> None:
    answer = run_cli("split", untidy, "--min-rows", 2, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "'net' (1 row)" in answer.err
    assert {row["label"] for path in (tmp_path / "out").iterdir() for row in rows_of(path)} == {"ham", "spam"}


def test_suspects_judges_all_rows_but_those_it_cannot(tmp_path: Path, untidy: Path, backbone: Path) -> None:
    out = tmp_path / "found.csv"
    answer = run_cli(*quick("suspects", untidy, "--backbone", backbone, "--out", out, "--folds", 3, "--json"))
    assert answer.code == 0, answer.err
    assert "'net' (1 row)" in answer.err
    counts = json.loads(answer.out)
    assert (counts["rows"], counts["not_judged"]) == (99, 1)
    found = rows_of(out)
    assert sorted(int(row["row"]) for row in found) == [*range(1, 21), *range(22, 101)]
    assert [found[-1][name] for name in ("row", "rank", "label", "suggested", "margin")] == ["10", "", "net", "", ""]
    texts, _ = messages(100)
    assert all(row["text"] == texts[int(row["row"]) - 1] for row in found)


def test_evaluate_takes_other_spellings_and_leaves_out_blank_rows(tmp_path: Path, run_dir: Path) -> None:
    texts, labels = messages(20)
    clean = run_cli("evaluate", run_dir, write_messages(tmp_path / "clean.csv", texts, labels), "--json")
    spelled = write_messages(tmp_path / "a.csv", ["", *texts], ["spam", *(f"\u00a0{label} " for label in labels)])
    answer = run_cli("evaluate", run_dir, spelled, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out) == json.loads(clean.out)
    assert answer.err.count("'\\xa0spam '") == 1
    assert "row 1 (line 2) of a.csv" in answer.err
    strict = run_cli("evaluate", run_dir, spelled, "--strict")
    assert strict.code == 2
    assert "row 1 (line 2) of a.csv" in strict.err
    cased = run_cli("evaluate", run_dir, write_messages(tmp_path / "b.csv", ["", "x"], ["spam", "SPAM"]))
    assert cased.code == 2
    assert "row 2 of b.csv" in cased.err
    assert "'SPAM'" in cased.err


def test_multi_label_with_a_rare_label_and_spellings(tmp_path: Path, backbone: Path) -> None:
    texts, labels = messages(60)
    labels[3], labels[5], labels[7] = f"{labels[3]}|net", f"{labels[5]}\u200b", "net"
    data = write_messages(tmp_path / "a.csv", texts, labels)
    answer = run_cli(*quick("train", data, "--multi-label", "--backbone", backbone, "--out", tmp_path / "run"))
    assert answer.code == 0, answer.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text("utf-8"))
    assert metrics["labels"] == ["ham", "net", "spam"]
    assert metrics["data"]["labels_in_train_only"] == {"net": 2}


# What to answer ---------------------------------------------------------------------------------------------------


def test_a_target_is_fitted_reported_and_saved(tmp_path: Path, data: Path, backbone: Path) -> None:
    out = tmp_path / "run"
    flags = ("--threshold", "spam@precision=0.9,ham=0.2")
    answer = run_cli(*quick("train", data, "--backbone", backbone, "--out", out, *flags))
    assert answer.code == 0, answer.err
    (target,) = json.loads((out / "metrics.json").read_text("utf-8"))["targets"]
    assert (target["label"], target["metric"], target["target"]) == ("spam", "precision", 0.9)
    assert set(target["splits"]) == {"validation", "test"}
    decision = json.loads((out / "config.json").read_text("utf-8"))["lasttoken"]["decision"]
    assert dict(map(tuple, decision["thresholds"])) == {0: 0.2, 1: target["threshold"]}
    assert "spam at precision 0.9" in answer.err
    for name in ("report.html", "README.md"):
        assert "spam at precision 0.9" in (out / name).read_text("utf-8")
    rejected = run_cli("predict", out, "hello", "--threshold", "spam@precision=0.9")
    assert rejected.code == 2
    assert "spam@precision=0.9" in rejected.err


def test_targets_of_sets_of_labels(tmp_path: Path, data: Path, backbone: Path) -> None:
    out = tmp_path / "run"
    flags = ("--multi-label", "--threshold", "spam@recall=0.9,ham=0.3")
    answer = run_cli(*quick("train", data, "--backbone", backbone, "--out", out, *flags))
    assert answer.code == 0, answer.err
    (target,) = json.loads((out / "metrics.json").read_text("utf-8"))["targets"]
    assert target["reached"]
    assert target["splits"]["validation"]["value"] >= 0.9


@pytest.mark.parametrize("flags", [("--cost", "spam:ham=5"), ("--threshold", "auto,spam@recall=0.9")])
def test_targets_and_other_rules(tmp_path: Path, data: Path, backbone: Path, flags: tuple[str, str]) -> None:
    threshold = ("--threshold", "spam@recall=0.9")
    answer = run_cli("train", data, "--backbone", backbone, "--out", tmp_path / "run", *threshold, *flags)
    assert answer.code == 2
    assert "--threshold" in answer.err


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_following_the_advice_about_one_answer_changes_the_answers(
    tmp_path: Path, backbone: Path, balance: str
) -> None:
    texts, _ = messages(400)
    labels = ["rare" if at % 20 == 0 else "usual" for at in range(400)]
    data, out = write_messages(tmp_path / "a.csv", texts, labels), tmp_path / "run"
    flags = ("--backbone", backbone, "--out", out, "--balance", balance, "--epochs", 4, "--learning-rate", 1e-3)
    answer = run_cli("train", data, *flags)
    assert answer.code == 0, answer.err
    (advice,) = (line for line in answer.err.splitlines() if "--threshold rare=" in line)
    assert "--balance" not in advice
    flag, value = re.search(r"(--threshold) (rare=\S+)", advice).groups()  # type: ignore[union-attr]
    found = json.loads(run_cli("evaluate", out, out / "splits/test.csv", flag, value, "--json").out)
    assert found["per_label"]["rare"]["recall"] > 0


def test_explain_takes_another_spelling_of_a_label(run_dir: Path) -> None:
    answer = run_cli("explain", run_dir, "hello there", "--label", "\u00a0spam", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["label"] == "spam"
    assert run_cli("explain", run_dir, "hello there", "--label", "SPAM").code == 2
