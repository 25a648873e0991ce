"""`lasttoken train`: its input, the files of a run, and which setting wins."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from miniature import Answer, messages, run_cli, write_messages

from lasttoken.cli.main import app
from lasttoken.core.errors import StorageError

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
RUN_FILES = {
    "run.toml",
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "metrics.json",
    "history.jsonl",
    "curves/loss.pdf",
    "curves/loss.svg",
    "curves/accuracy.pdf",
    "curves/accuracy.svg",
    "splits/train.csv",
    "splits/validation.csv",
    "splits/test.csv",
    "report.html",
    "README.md",
    "predictions/validation.csv",
    "predictions/test.csv",
    *(f"curves/{name}.{suffix}" for name in ("reliability", "precision-recall") for suffix in ("pdf", "svg")),
}


def train(data: Path | None, backbone: Path, out: Path, *flags: object) -> Answer:
    """Train one epoch of the miniature, and expect it to work."""
    given = [] if data is None else [data]
    answer = run_cli("train", *given, "--backbone", backbone, "--out", out, "--epochs", 1, *flags)
    assert answer.code == 0, answer.err
    return answer


def read_metrics(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text("utf-8"))
    return content


def settings_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((run / "run.toml").read_text("utf-8"))["settings"]
    return content


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# What a run leaves ------------------------------------------------------------------------------------------------


def test_a_run_leaves_the_files_that_the_design_lists(run_dir: Path) -> None:
    assert files_below(run_dir) == RUN_FILES


def test_metrics_have_the_shape_that_programs_rely_on(run_dir: Path) -> None:
    metrics = read_metrics(run_dir)
    assert list(metrics["splits"]) == ["train", "validation", "test"]
    for name, found in metrics["splits"].items():
        assert found["n"] == metrics["examples"][name] == len(rows_of(run_dir / f"splits/{name}.csv"))
        low, high = found["accuracy_ci95"]
        assert 0 <= low <= found["accuracy"] <= high <= 1
        assert found["loss"] > 0
        assert 0 <= found["macro_f1"] <= 1
        assert sum(map(sum, found["confusion"])) == found["n"]
    assert {"majority", "tfidf-logreg"} <= metrics["baselines"].keys()
    assert all(0 <= found["test"]["accuracy"] <= 1 for found in metrics["baselines"].values())
    assert {"load", "trunk", "tail", "evaluate"} <= metrics["timing_s"].keys()
    assert metrics["labels"] == ["ham", "spam"]
    assert metrics["stopped"] is None


def test_history_has_a_line_for_each_evaluation_and_marks_what_was_kept(run_dir: Path) -> None:
    lines = [json.loads(line) for line in (run_dir / "history.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[0]["step"] == 0
    assert lines[-1]["epoch"] == 3
    assert [line["step"] for line in lines if line["best"]] == [read_metrics(run_dir)["kept_step"]]


def test_nothing_temporary_and_no_pickle_is_left(run_dir: Path) -> None:
    names = files_below(run_dir)
    assert not [name for name in names if ".tmp-" in name or name.endswith((".bin", ".pt", ".pkl"))]


def test_run_toml_alone_trains_the_same_weights_again(run_dir: Path, tmp_path: Path) -> None:
    answer = run_cli("train", "--config", run_dir / "run.toml", "--out", tmp_path / "again", "--offline")
    assert answer.code == 0, answer.err
    assert (tmp_path / "again/model.safetensors").read_bytes() == (run_dir / "model.safetensors").read_bytes()
    assert read_metrics(tmp_path / "again")["splits"] == read_metrics(run_dir)["splits"]
    recorded = [tomllib.loads((folder / "run.toml").read_text("utf-8")) for folder in (run_dir, tmp_path / "again")]
    for name in ("settings", "machine", "trunk", "versions"):
        assert recorded[0][name] == recorded[1][name]


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


def test_the_run_directory_is_named_after_the_data(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_cli("train", data, "--backbone", backbone, "--epochs", 1)
    assert answer.code == 0
    assert answer.err.splitlines()[-1] == f"run: {Path('runs/messages')}"
    assert files_below(tmp_path / "runs/messages") == RUN_FILES


def test_reading_the_first_token_warns(data: Path, backbone: Path, tmp_path: Path) -> None:
    assert "--no-causal-mask" in train(data, backbone, tmp_path / "a", "--read", "first").err
    without_mask = train(data, backbone, tmp_path / "b", "--read", "first", "--no-causal-mask")
    assert "--no-causal-mask" not in without_mask.err
    assert settings_of(tmp_path / "b")["causal_mask"] is False


def test_cut_texts_are_counted_and_said(data: Path, backbone: Path, tmp_path: Path) -> None:
    said = train(data, backbone, tmp_path / "run", "--max-length", 8).err
    n = len(rows_of(tmp_path / "run/splits/train.csv"))
    assert f"{n} of {n} train texts" in said
    assert "8 tokens" in said


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


def test_neither_a_small_cache_nor_none_changes_the_result(
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


def test_a_folder_of_splits_is_used_as_given(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    train(tmp_path / "mine", backbone, tmp_path / "run")
    check_as_given(tmp_path / "run", files)


def test_splits_by_flags_are_used_as_given(backbone: Path, tmp_path: Path) -> None:
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


def test_without_a_test_split_there_are_no_test_figures(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    answer = train(files["train"], backbone, tmp_path / "run", "--validation", files["validation"])
    assert list(read_metrics(tmp_path / "run")["splits"]) == ["train", "validation"]
    assert files_below(tmp_path / "run") == RUN_FILES - {"splits/test.csv", "predictions/test.csv"}
    assert "test" not in answer.out


def test_shared_texts_of_given_splits_are_said(backbone: Path, tmp_path: Path) -> None:
    files = given_splits(tmp_path / "mine")
    with files["test"].open("a", encoding="utf-8") as file:
        file.write(files["train"].read_text("utf-8").splitlines()[1] + "\n")
    answer = train(tmp_path / "mine", backbone, tmp_path / "run")
    assert re.search(r"rows? of test (is|are) in train too: 1 the same text", answer.err)
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
    refused = run_cli("train", data, "--backbone", backbone, "--out", out)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert {name: (out / name).read_bytes() for name in files_below(out)} == before
    train(data, backbone, out, "--overwrite", "--seed", 7)
    assert files_below(out) == RUN_FILES
    assert settings_of(out)["seed"] == 7


def test_overwriting_leaves_other_files_alone(run_dir: Path, data: Path, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "spam"
    shutil.copytree(run_dir, out)
    (out / "notes.txt").write_text("mine", "utf-8")
    train(data, backbone, out, "--overwrite")
    assert files_below(out) == {*RUN_FILES, "notes.txt"}


def test_a_folder_of_other_files_is_refused_even_with_overwrite(data: Path, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    answer = run_cli("train", data, "--backbone", backbone, "--out", tmp_path / "photos", "--overwrite")
    assert answer.code == 2
    assert "'cat.jpg'" in answer.err
    assert files_below(tmp_path / "photos") == {"cat.jpg"}


def test_resume_without_a_saved_state_starts_over_and_says_so_but_only_with_the_same_settings(
    run_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    shutil.copytree(run_dir, out)
    for name in ("metrics.json", "model.safetensors"):
        (out / name).unlink()
    other = run_cli("train", "--resume", "--out", out, "--train-blocks", "head")
    assert other.code == 2
    assert "settings" in other.err
    assert not (out / "model.safetensors").exists()
    again = run_cli("train", "--resume", "--out", out)
    assert again.code == 0, again.err
    assert "--checkpoint-every" in again.err
    assert (out / "model.safetensors").read_bytes() == (run_dir / "model.safetensors").read_bytes()


def test_seeds_folds_and_the_learning_curve_stand_beside_the_run(data: Path, backbone: Path, tmp_path: Path) -> None:
    train(data, backbone, tmp_path / "plain")
    answer = train(data, backbone, tmp_path / "run", "--seeds", 2, "--folds", 2, "--learning-curve")
    assert "over 2 seeds: accuracy" in answer.out
    assert "over 2 folds: accuracy" in answer.out
    metrics = read_metrics(tmp_path / "run")
    assert metrics["splits"] == read_metrics(tmp_path / "plain")["splits"]  # the run itself is the same
    first, second = metrics["seeds"]["runs"]
    assert first["accuracy"] == metrics["splits"]["test"]["accuracy"]
    assert second["name"] == "seed 124"
    assert metrics["seeds"]["mean"]["loss"] == pytest.approx((first["loss"] + second["loss"]) / 2)
    assert metrics["folds"]["all_rows"]["n"] == sum(metrics["examples"].values())
    points = metrics["learning_curve"]["points"]
    assert [point["n_train"] for point in points] == sorted(point["n_train"] for point in points)
    assert points[-1]["n_train"] == metrics["examples"]["train"]
    assert points[-1]["accuracy"] == metrics["splits"]["test"]["accuracy"]
    assert (tmp_path / "run/curves/learning-curve.svg").is_file()


def test_predictions_are_those_of_the_figures_row_by_row(run_dir: Path) -> None:
    metrics = read_metrics(run_dir)
    for split in ("validation", "test"):
        rows, given = rows_of(run_dir / f"predictions/{split}.csv"), rows_of(run_dir / f"splits/{split}.csv")
        assert [row["label"] for row in rows] == [row["label"] for row in given]
        right = sum(row["label"] == row["predicted"] for row in rows)
        assert right / len(rows) == metrics["splits"][split]["accuracy"]
        cheap = sum(row["label"] == row["baseline tfidf-logreg"] for row in rows)
        assert cheap / len(rows) == metrics["baselines"]["tfidf-logreg"][split]["accuracy"]
        assert [row["text"] for row in rows] == [row["text"] for row in given]
        assert [int(row["row"]) for row in rows] == list(range(1, len(rows) + 1))
        assert all(row["probability"] == row[f"probability of {row['predicted']}"] for row in rows)
        assert "id" not in rows[0]


def test_predictions_have_the_ids_of_the_data(tmp_path: Path, backbone: Path) -> None:
    texts, labels = messages(60)
    lines = [f'key-{row},"{text}",{label}\n' for row, (text, label) in enumerate(zip(texts, labels, strict=True))]
    (tmp_path / "a.csv").write_text("key,text,label\n" + "".join(lines), "utf-8")
    ids = {text: f"key-{row}" for row, text in enumerate(texts)}
    flags = ("--id", "key", "--backbone", backbone, "--epochs", 1, "--no-cache", "--out", tmp_path / "run")
    assert run_cli("train", tmp_path / "a.csv", *flags).code == 0
    rows = rows_of(tmp_path / "run/predictions/test.csv")
    assert next(iter(rows[0])) == "id"
    assert [row["id"] for row in rows] == [ids[row["text"]] for row in rows]


def test_a_thinned_train_split_remembers_the_real_frequencies(data: Path, backbone: Path, tmp_path: Path) -> None:
    train(data, backbone, tmp_path / "run", "--balance", "undersample")
    recorded = tomllib.loads((tmp_path / "run/run.toml").read_text("utf-8"))
    assert sum(recorded["label_counts"].values()) >= read_metrics(tmp_path / "run")["examples"]["train"]


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


def unfinished(data: Path, backbone: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed in its training."""

    def killed(*_: object) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("lasttoken.runs.write.save_classifier", killed)
        answer = run_cli(
            "train", data, "--backbone", backbone, "--out", out, "--epochs", 1, "--checkpoint-every", 0, "--offline"
        )
    assert answer.code == 1
    assert (out / "resume.safetensors").is_file()


def test_resume_refuses_another_file_by_name_and_says_that_a_changed_one_is_not_read(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = messages(40)
    data = write_messages(tmp_path / "data.csv", texts, labels)
    other = write_messages(tmp_path / "other.csv", texts[::-1], labels[::-1])
    out = tmp_path / "run"
    unfinished(data, backbone, out, monkeypatch)
    refused = run_cli("train", other, "--resume", "--out", out, "--offline")
    assert refused.code == 2
    assert "other.csv" in refused.err
    assert "data.csv" in refused.err
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


def test_a_finished_run_outlives_a_training_that_cannot_begin(
    run_dir: Path, data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run_dir, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def failing(*_: object, **__: object) -> None:
        raise StorageError("no room for features")

    monkeypatch.setattr("lasttoken.runs.session.features_of", failing)
    answer = run_cli("train", data, "--backbone", backbone, "--out", out, "--overwrite", "--offline")
    assert answer.code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


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
