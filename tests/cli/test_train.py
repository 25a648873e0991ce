"""`lasttoken train`: its input, the files of a run, and which setting wins."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from miniature import messages, run_cli, write_messages
from run_folders import RUN_FILES, files_below, read_metrics, rows_of, settings_of, train, unfinished

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.checkpoint import load_classifier
from lasttoken.cli.main import app
from lasttoken.runs import session

# What other people's scripts rely on, by name.
TRAIN_FLAGS = """
    --text --label --id --group --encoding --balance --train-fraction --validation-fraction --validation --test
    --backbone --recipe --train-blocks --read --no-causal-mask --max-length --truncate --epochs --batch-size
    --learning-rate --eval-every --eval-batches --seed --device --precision --cache-limit --no-cache --out --overwrite
    --resume --config
"""
FLAGS = {
    "train": TRAIN_FLAGS.split(),
    "generate": ["--max-new-tokens", "--temperature", "--top-k", "--seed", "--stop-at-end"],
    "ask": ["--prompt", "--answers"],
    "split": ["--out", "--recipe", "--balance", "--train-fraction", "--validation-fraction"],
    "predict": ["--input", "--output", "--id", "--text"],
    "evaluate": ["--text", "--label"],
    "demo": ["--out"],
    "fetch": [],
    "info": [],
}


# What a run leaves ------------------------------------------------------------------------------------------------


def test_json_is_the_metrics_and_where_the_run_is(data: Path, backbone: Path, tmp_path: Path) -> None:
    answer = train(data, backbone, tmp_path / "run", "--json", "--quiet")
    assert json.loads(answer.out) == {**read_metrics(tmp_path / "run"), "run": str(tmp_path / "run")}
    assert answer.err == ""


def test_quiet_prints_only_the_metrics(data: Path, backbone: Path, tmp_path: Path) -> None:
    answer = train(data, backbone, tmp_path / "run", "--quiet")
    assert answer.err == ""
    accuracy = read_metrics(tmp_path / "run")["splits"]["test"]["accuracy"]
    row = next(line for line in answer.out.splitlines() if line.split()[:2] == ["test", "GPT"])
    assert f"{accuracy * 100:.2f}%" in row
    assert "majority" in answer.out


def test_guessed_columns_are_reported(data: Path, backbone: Path, tmp_path: Path) -> None:
    said = train(data, backbone, tmp_path / "run").err
    assert "'text' of messages.csv" in said
    assert "'label' of messages.csv" in said
    assert "ham 30, spam 30" in said


# Flags ------------------------------------------------------------------------------------------------------------


def flags_of(command: str) -> set[str]:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {flag for parameter in commands[command].params for flag in parameter.opts}


@pytest.mark.parametrize("command", FLAGS)
def test_flags_are_there_by_the_names_that_scripts_rely_on(command: str) -> None:
    assert {*FLAGS[command], "--json"} <= flags_of(command)


def test_a_flag_wins_over_config_which_wins_over_the_recipe(data: Path, backbone: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('recipe = "book"\nepochs = 7\nbatch-size = 4\nread = "last"\n', "utf-8")
    train(data, backbone, tmp_path / "run", "--config", config, "--read", "mean")
    found = settings_of(tmp_path / "run")
    assert found["recipe"] == "book"
    assert found["epochs"] == 1, "a flag"
    assert found["read"] == "mean", "a flag"
    assert found["batch_size"] == 4, "--config"
    assert found["eval_every"] == 50, "the recipe"
    assert found["keep"] == "last", "the recipe"


@pytest.mark.parametrize("by_flag", [True, False])
def test_the_prompt_is_recorded_and_read(
    by_flag: bool, data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is typed, or the backbone's own, which a backbone in a folder does not have."""
    prompt, run = "{text}\nTopic:", tmp_path / "run"
    if not by_flag:
        with_prompt = lambda *args, **kwargs: replace(load_backbone(*args, **kwargs), prompt=prompt)  # noqa: E731
        monkeypatch.setattr(session, "load_backbone", with_prompt)
    said = train(data, backbone, run, "--read", "mean", *(["--prompt", r"{text}\nTopic:"] if by_flag else [])).err
    assert repr(prompt) in said
    assert settings_of(run)["prompt"] == prompt
    facts = json.loads(run_cli("info", run, "--json").out)
    assert facts["prompt"] == prompt
    classifier, tokenizer = load_classifier(run)
    assert (*classifier.config.prefix_ids, *classifier.config.suffix_ids) == tuple(tokenizer.encode("\nTopic:"))
    assert "Topic:" in (run / "report.html").read_text("utf-8")


def test_the_run_directory_is_named_after_the_data(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_cli("train", data, "--backbone", backbone, "--epochs", 1)
    assert answer.code == 0
    assert answer.err.splitlines()[-1] == f"run: {Path('runs/messages')}"
    assert files_below(tmp_path / "runs/messages") == RUN_FILES


# The cache --------------------------------------------------------------------------------------------------------


def test_features_are_cached_for_the_user_alone_and_used_again(
    data: Path, backbone: Path, tmp_path: Path, own_cache: Path
) -> None:
    train(data, backbone, tmp_path / "a")
    entries = {path: path.read_bytes() for path in own_cache.glob("features/*/features.bin")}
    assert len(entries) == 3
    assert (own_cache / "features").stat().st_mode & 0o777 == 0o700
    train(data, backbone, tmp_path / "b", "--learning-rate", 1e-3)
    assert {path: path.read_bytes() for path in own_cache.glob("features/*/features.bin")} == entries


def test_the_result_is_the_same_with_a_small_cache_and_without_a_cache(
    data: Path, backbone: Path, tmp_path: Path, own_cache: Path
) -> None:
    train(data, backbone, tmp_path / "none", "--no-cache")
    assert files_below(own_cache) == set()
    small = train(data, backbone, tmp_path / "small", "--cache-limit", "1KB")
    assert "--cache-limit" in small.err
    assert "1,000 bytes" in small.err
    assert files_below(own_cache) == set()
    train(data, backbone, tmp_path / "cached")
    for name in ("none", "small"):
        found, expected = (read_metrics(tmp_path / run)["splits"] for run in (name, "cached"))
        for split in expected:
            assert found[split]["confusion"] == expected[split]["confusion"]
            assert found[split]["loss"] == pytest.approx(expected[split]["loss"], rel=1e-4)


# Data that is given -----------------------------------------------------------------------------------------------


def given_splits(folder: Path) -> dict[str, Path]:
    """train.csv, validation.csv and test.csv of 40, 10 and 10 messages."""
    texts, labels = messages(60)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": slice(0, 40), "validation": slice(40, 50), "test": slice(50, 60)}
    return {name: write_messages(folder / f"{name}.csv", texts[part], labels[part]) for name, part in parts.items()}


def check_as_given(run: Path, files: dict[str, Path]) -> None:
    for name, path in files.items():
        assert rows_of(run / f"splits/{name}.csv") == rows_of(path)


def test_a_folder_of_splits_is_used_unchanged(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    train(tmp_path / "mine", backbone, tmp_path / "run")
    check_as_given(tmp_path / "run", files)


def test_splits_by_flags_are_used_unchanged(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    flags = ("--validation", files["validation"], "--test", files["test"])
    train(files["train"], backbone, tmp_path / "run", *flags)
    check_as_given(tmp_path / "run", files)


def test_a_missing_validation_is_cut_from_train(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    answer = train(files["train"], backbone, tmp_path / "run", "--test", files["test"])
    assert "validation: 4 rows cut from train (--validation-fraction 0.1)" in answer.err
    assert rows_of(tmp_path / "run/splits/test.csv") == rows_of(files["test"])
    parts = [rows_of(tmp_path / f"run/splits/{name}.csv") for name in ("train", "validation")]
    assert [len(part) for part in parts] == [36, 4]
    assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, rows_of(files["train"])))


def test_without_a_test_split_there_are_no_test_metrics(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    answer = train(files["train"], backbone, tmp_path / "run", "--validation", files["validation"])
    assert list(read_metrics(tmp_path / "run")["splits"]) == ["train", "validation"]
    assert files_below(tmp_path / "run") == RUN_FILES - {"splits/test.csv", "predictions/test.csv"}
    assert "test" not in answer.out


def test_texts_shared_between_splits_are_reported(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    with files["test"].open("a", encoding="utf-8") as file:
        file.write(files["train"].read_text("utf-8").splitlines()[1] + "\n")
    answer = train(tmp_path / "mine", backbone, tmp_path / "run")
    assert re.search(r"test rows? (is|are) also in train", answer.err)
    assert read_metrics(tmp_path / "run")["shared_with_train"] == {"validation": 0, "test": 1}


def test_undersampling_thins_train_only(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    data = write_messages(
        tmp_path / "a.csv", [*texts, *(f"more ham {at}" for at in range(60))], [*labels, *["ham"] * 60]
    )
    answer = train(data, backbone, tmp_path / "run", "--balance", "undersample")
    counts = {
        name: [row["label"] for row in rows_of(tmp_path / f"run/splits/{name}.csv")].count
        for name in ("train", "validation", "test")
    }
    assert counts["train"]("ham") == counts["train"]("spam") == 21
    assert counts["test"]("ham") == 18
    assert counts["test"]("spam") == 6
    assert "ham 63, spam 21" in answer.err
    assert "ham 21, spam 21" in answer.err


def test_a_tab_separated_file_without_a_header_is_read_as_it_is(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    texts[0] = 'she said "win'
    lines = [f"{label}\t{text}\n" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "SMSSpamCollection").write_text("".join(lines), "utf-8")
    answer = train(tmp_path / "SMSSpamCollection", backbone, tmp_path / "run")
    assert "SMSSpamCollection" in answer.err
    assert "header" in answer.err
    rows = [row for name in ("train", "validation", "test") for row in rows_of(tmp_path / f"run/splits/{name}.csv")]
    assert sorted(row["text"] for row in rows) == sorted(texts)
    assert read_metrics(tmp_path / "run")["labels"] == ["ham", "spam"]


def test_columns_by_flag_are_joined_and_passed_through(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    data = tmp_path / "tickets.jsonl"
    rows = [
        {"subject": f"s{at}", "body": text, "kind": label, "key": at, "who": f"w{at // 2}"}
        for at, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    columns = ("--text", "subject", "--text", "body", "--label", "kind", "--id", "key", "--group", "who")
    train(data, backbone, tmp_path / "run", *columns)
    sides: dict[str, str] = {}
    for name in ("train", "validation", "test"):
        for row in rows_of(tmp_path / f"run/splits/{name}.csv"):
            at = int(row["id"])
            assert row["text"] == f"s{at}\n\n{texts[at]}"
            assert row["label"] == labels[at]
            assert sides.setdefault(row["group"], name) == name
    assert len(sides) == 30


def test_labels_are_in_natural_order_and_warned_about(backbone: Path, tmp_path: Path) -> None:
    texts, _ = messages(60)
    data = write_messages(tmp_path / "a.csv", texts, [("10", "x", "2", "X")[at % 4] for at in range(60)])
    answer = train(data, backbone, tmp_path / "run")
    assert read_metrics(tmp_path / "run")["labels"] == ["2", "10", "X", "x"]
    assert "case" in answer.err


# What is there already --------------------------------------------------------------------------------------------


def test_a_finished_run_is_replaced_only_with_overwrite(
    run_dir: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "spam"
    shutil.copytree(run_dir, out)
    before = {name: (out / name).read_bytes() for name in files_below(out)}
    rejected = run_cli("train", data, "--backbone", backbone, "--out", out)
    assert rejected.code == 2
    assert "--overwrite" in rejected.err
    assert {name: (out / name).read_bytes() for name in files_below(out)} == before
    train(data, backbone, out, "--overwrite", "--seed", 7)
    assert files_below(out) == RUN_FILES
    assert settings_of(out)["seed"] == 7


def test_a_folder_of_other_files_is_rejected_even_with_overwrite(data: Path, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    answer = run_cli("train", data, "--backbone", backbone, "--out", tmp_path / "photos", "--overwrite")
    assert answer.code == 2
    assert "'cat.jpg'" in answer.err
    assert files_below(tmp_path / "photos") == {"cat.jpg"}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--threshold", "spma=0.9"), "'spma'"),
        (("--answers", "spam=yes,eggs=no"), "'ham', 'spam'"),
        (("--slice-by", "shop"), "'shop'"),
    ],
)
def test_settings_of_the_evaluation_are_checked_before_anything_is_written(
    flags: tuple[str, str], named: str, data: Path, backbone: Path, tmp_path: Path
) -> None:
    answer = run_cli("train", data, "--backbone", backbone, "--out", tmp_path / "run", *flags)
    assert answer.code == 2
    assert named in answer.err
    assert not (tmp_path / "run").exists()


def test_resume_rejects_another_file_by_name_and_reports_a_changed_one(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = messages(40)
    data = write_messages(tmp_path / "data.csv", texts, labels)
    other = write_messages(tmp_path / "other.csv", texts[::-1], labels[::-1])
    out = tmp_path / "run"
    unfinished(data, backbone, out, monkeypatch)
    rejected = run_cli("train", other, "--resume", "--out", out, "--offline")
    assert rejected.code == 2
    assert "other.csv" in rejected.err
    assert "data.csv" in rejected.err
    assert (out / "resume.safetensors").is_file()
    trained = (out / "splits" / "train.csv").read_bytes()
    write_messages(data, texts[:30], labels[:30])
    again = run_cli("train", data, "--resume", "--out", out, "--offline")
    assert again.code == 0, again.err
    assert any("data.csv" in line and "not read" in line for line in again.err.splitlines())
    assert (out / "splits" / "train.csv").read_bytes() == trained


def test_resume_without_data_says_when_the_file_has_changed_and_nothing_when_it_has_not(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_messages(tmp_path / "data.csv", *messages(40))
    for name, changes in (("same", False), ("changed", True)):
        unfinished(data, backbone, tmp_path / name, monkeypatch)
        if changes:
            write_messages(data, *messages(50))
        answer = run_cli("train", "--resume", "--out", tmp_path / name, "--offline")
        assert answer.code == 0, answer.err
        assert ("not read" in answer.err) == changes


@pytest.mark.parametrize("name", ["splits", "predictions"])
def test_a_run_whose_folder_is_a_link_is_not_overwritten(
    name: str, run_dir: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run_dir, out)
    (out / name).rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    before = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    answer = run_cli("train", data, "--backbone", backbone, "--out", out, "--overwrite", "--offline")
    assert answer.code == 2
    assert name in answer.err
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == before
    assert (out / "metrics.json").is_file()
