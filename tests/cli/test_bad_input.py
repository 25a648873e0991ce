"""Invalid input of users: one sentence that names what was found and where; nothing is written, exit code 2.

The lists `names` are parts that the sentence must contain: files, rows, columns, flags and values.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli.sentences import sentence_of, snapshot
from miniature import messages, published_tensors, random_gpt, run_cli, small_tokenizer, write_backbone
from safetensors.torch import save_file

Reject = Callable[..., str]


@pytest.fixture
def reject(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Reject:
    """Run a command in tmp_path; it must fail with one sentence that contains all of `names`, and write nothing."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, names: list[str]) -> str:
        before = snapshot(tmp_path, own_cache)
        quiet = () if arguments[0] == "info" else ("--quiet",)
        sentence = sentence_of(run_cli(*arguments, *quiet), 2)
        assert [part for part in names if part not in sentence] == [], sentence
        assert snapshot(tmp_path, own_cache) == before
        return sentence

    return run


def csv_text(*rows: str) -> str:
    """A CSV file of 30 good rows with `rows` at its end."""
    texts, labels = messages(30)
    good = [f'"{text}",{label}' for text, label in zip(texts, labels, strict=True)]
    return "\n".join(["text,label", *good, *rows]) + "\n"


# Data -------------------------------------------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[str, bytes, list[str], list[str]]] = {  # name: (file, content, flags, said)
    "empty": ("a.csv", b"", [], ["a.csv", "empty"]),
    "only a header": ("a.csv", b"text,label\n", [], ["a.csv", "'text', 'label'", "no rows"]),
    "not UTF-8": (
        "a.csv",
        "text,label\ncafé,ham\n".encode("latin-1"),
        [],
        ["a.csv", "utf-8", "0xe9", "14", "--encoding cp1252"],
    ),
    "no such encoding": ("a.csv", b"text,label\n", ["--encoding", "utf-9"], ["--encoding", "'utf-9'", "cp1252"]),
    "wrong column": (
        "a.csv",
        csv_text().encode(),
        ["--text", "Texts"],
        ["'Texts'", "'text', 'label'"],
    ),
    "wrong label column": ("a.csv", csv_text().encode(), ["--label", "lable"], ["'lable'", "'label'"]),
    "no obvious column": ("a.csv", b"a,b,c\n1,2,3\n", [], ["'a', 'b', 'c'", "--text"]),
    "one class only": (
        "a.csv",
        b"text,label\na,x\nb,x\n",
        [],
        ["a.csv", "'x'", "two labels"],
    ),
    "a class too small": (
        "a.csv",
        csv_text(*["odd,eggs"] * 4, *["odd,ham"] * 40).encode(),
        [],
        ["'eggs'", "a.csv", "4 rows", "1 independent"],
    ),
    "label missing": (
        "a.csv",
        csv_text("hello,").encode(),
        ["--strict"],
        ["row 31 (line 32) of a.csv", "no label"],
    ),
    "text missing": (
        "a.csv",
        csv_text(" ,ham").encode(),
        ["--strict"],
        ["row 31 (line 32) of a.csv", "no text"],
    ),
    "ragged": ("a.csv", csv_text("a,b,ham").encode(), [], ["row 31 (line 32)", "3 fields", "2"]),
    "open quote": ("a.csv", csv_text('"a,ham').encode(), [], ["row 31 (line 32)", "quote"]),
    "malformed JSON": (
        "a.jsonl",
        b'{"text": "a", "label": "x"}\n{"text": "b", label: "y"}\n',
        [],
        ["row 2 (line 2) of a.jsonl", "JSON"],
    ),
    "JSON that is no object": ("a.jsonl", b"[1, 2]\n", [], ["row 1 (line 1)", "[1, 2]", "JSON object"]),
    "unreadable Parquet": (
        "a.parquet",
        b"PAR1 but torn",
        [],
        ["a.parquet", "Parquet"],
    ),
    "truncated gzip": (
        "a.csv.gz",
        gzip.compress(csv_text().encode())[:60],
        [],
        ["a.csv.gz", "gzip"],
    ),
    "another kind": ("a.xlsx", b"PK", [], ["a.xlsx", ".csv", ".jsonl", ".parquet", "--format"]),
}


@pytest.mark.parametrize("command", ["train", "split"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used(name: str, command: str, reject: Reject, tmp_path: Path) -> None:
    file, content, flags, names = UNUSABLE[name]
    (tmp_path / file).write_bytes(content)
    reject(command, file, "--out", "out", *flags, names=names)


@pytest.mark.parametrize("command", ["train", "split"])
def test_a_file_that_is_missing(command: str, reject: Reject, tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text(csv_text(), "utf-8")
    reject(command, "mesages.csv", "--out", "out", names=["mesages.csv", "'messages.csv'"])


@pytest.mark.parametrize("name", ["validation", "test"])
def test_splits_with_different_labels(name: str, reject: Reject, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.csv").write_text(csv_text(*["what,Spam"] * (split == name)), "utf-8")
    names = [f"row 31 of {name}.csv", "'Spam'", "'ham', 'spam'", "train.csv"]
    reject("train", ".", "--out", "out", names=names)
    reject("train", "train.csv", "--validation", "validation.csv", "--test", "test.csv", "--out", "out", names=names)


def test_a_folder_without_a_train_split(reject: Reject, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/test.csv").write_text(csv_text(), "utf-8")
    reject("train", "mine", "--out", "out", names=["mine", "train.csv", "'test.csv'"])


def test_notes_may_come_before_the_sentence_which_is_last(data: Path, tmp_path: Path) -> None:
    answer = run_cli("train", data, "--backbone", "gpt-2", "--out", tmp_path / "out")
    assert answer.code == 2
    *notes, last = answer.err.splitlines()
    assert last.startswith("error: ")
    assert "'gpt-2'" in last
    assert notes
    assert not any(note.startswith("error") for note in notes)


# Settings ---------------------------------------------------------------------------------------------------------

SETTINGS: list[tuple[list[object], list[str]]] = [
    (["--batch-size", 0], ["--batch-size", "0", "at least 1"]),
    (["--learning-rate", -1e-3], ["--learning-rate", "-0.001", "above 0"]),
    (["--learning-rate", "nan"], ["--learning-rate", "nan", "above 0"]),
    (
        ["--train-fraction", 0.8, "--validation-fraction", 0.3],
        ["0.8", "--validation-fraction 0.3", "1.1"],
    ),
    (
        ["--train-fraction", 0.9, "--validation-fraction", 0.1],
        ["0.9", "--validation-fraction 0.1", "test"],
    ),
    (["--train-fraction", 70], ["--train-fraction", "70", "above 0 and below 1"]),
    (["--train-blocks", "two"], ["--train-blocks", "'two'", "head", "all"]),
    (["--train-blocks", 9], ["--train-blocks", "9", "3 blocks", "all"]),
    (["--max-length", 65], ["--max-length", "65", "64 positions"]),
    (["--cache-limit", "lots"], ["--cache-limit", "'lots'", "20GB"]),
    (["--seed", 2**32], ["--seed", "4294967296", "4,294,967,296"]),
    (["--device", "cuda"], ["--device cuda", "--device auto"]),
    (["--recipe", "book", "--batch-size", 64], ["--batch-size", "64", "42 rows"]),
    (["--config", "none.toml"], ["--config", "none.toml"]),
]


@pytest.mark.parametrize(("flags", "names"), SETTINGS, ids=lambda value: "-".join(map(str, value)))
def test_an_invalid_setting_is_rejected(
    flags: list[object], names: list[str], reject: Reject, data: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reject("train", data, "--backbone", backbone, "--out", "out", *flags, names=names)


USAGE: list[tuple[list[object], list[str]]] = [
    (["train", "a.csv", "--epoch", 5], ["--epoch", "lasttoken train --help"]),
    (["train", "a.csv", "--read", "lst"], ["--read", "'lst'", "'last'", "'padded-last'", "lasttoken train --help"]),
    (["train", "a.csv", "--epochs", "five"], ["--epochs", "'five'", "lasttoken train --help"]),
    (["train", "a.csv", "--epochs"], ["--epochs"]),
    (["train", "a.csv", "b.csv"], ["b.csv", "lasttoken train --help"]),
    (["trian"], ["'trian'", "lasttoken --help"]),
    (["evaluate", "runs/spam"], ["data", "lasttoken evaluate --help"]),
]


@pytest.mark.parametrize(("arguments", "names"), USAGE, ids=lambda value: "-".join(map(str, value)))
def test_an_invalid_command_line_is_rejected(arguments: list[object], names: list[str]) -> None:
    sentence = sentence_of(run_cli(*arguments), 2)
    assert [part for part in names if part not in sentence] == [], sentence
    assert len(sentence) < 200


CONFIGS: list[tuple[str, list[str]]] = [
    ("epochs = ", ["my.toml", "TOML"]),
    ("epocs = 3\n", ["my.toml", "'epocs'", "'epochs'"]),
    ('epochs = "3"\n', ["--epochs", "'3'", "int"]),
    ("recipe = 5\n", ["--recipe", "5", "'default', 'book'"]),
    ('recipe = "bok"\n', ["--recipe", "'bok'", "'book'"]),
    ("data = 5\n", ["my.toml", "data", "5", "path"]),
    ("text = [5]\n", ["--text", "5"]),
    ("settings = 5\n", ["[settings]", "table"]),
]


@pytest.mark.parametrize(("content", "names"), CONFIGS)
def test_a_config_file_that_cannot_be_used(
    content: str, names: list[str], reject: Reject, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text(content, "utf-8")
    reject("train", data, "--config", "my.toml", "--out", "out", names=names)


def test_no_data_at_all(reject: Reject) -> None:
    reject("train", names=["data", "lasttoken train messages.csv"])


def test_resume_without_a_directory(reject: Reject) -> None:
    reject("train", "--resume", names=["--resume", "--out"])


# Places -----------------------------------------------------------------------------------------------------------


def test_a_directory_that_holds_a_finished_run(reject: Reject, run_dir: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "done")
    reject("train", data, "--out", "done", names=["done", "finished", "--overwrite"])
    reject("train", "--resume", "--out", "done", names=["done", "finished", "--overwrite"])
    reject("demo", "--out", "done", names=["done", "finished", "--overwrite"])


@pytest.mark.parametrize("command", ["train", "split"])
def test_a_file_where_a_folder_is_needed(command: str, reject: Reject, data: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine", "utf-8")
    reject(command, data, "--out", "taken", names=["--out taken", "a file"])


def test_a_folder_of_other_files(reject: Reject, data: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    reject("train", data, "--out", "photos", names=["photos", "'cat.jpg'", "--out"])


@pytest.mark.parametrize("command", [["predict", "half", "hello"], ["evaluate", "half", "a.csv"], ["info", "half"]])
def test_a_run_without_metrics(command: list[str], reject: Reject, run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "half")
    (tmp_path / "half/metrics.json").unlink()
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    reject(*command, names=["half", "metrics.json", "lasttoken train --resume --out half"])


@pytest.mark.parametrize("command", [["predict", "runs/spam", "hello"], ["evaluate", "runs/spam", "a.csv"]])
def test_a_missing_run_is_named(command: list[str], reject: Reject, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    reject(*command, names=["run directory runs/spam", "lasttoken train --out"])


def test_info_rejects_a_path_that_is_neither_a_run_nor_a_backbone(reject: Reject, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    reject("info", "spam", names=["run directory spam", "backbone 'spam'", "gpt2"])
    reject("info", "empty", names=["empty", "run directory", "backbone"])


# Backbones and runs that are broken -------------------------------------------------------------------------------


def test_an_unknown_backbone_names_the_nearest(reject: Reject, data: Path) -> None:
    names = ["'gpt2-meduim'", "'gpt2-medium'", "smollm2-135m-b16", "hub id", "folder"]
    reject("train", data, "--backbone", "gpt2-meduim", "--out", "out", names=names)
    reject("generate", "gpt2-meduim", "Every effort", names=names)


def break_truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def break_zeros(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(bytes(4096))


def break_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def break_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_missing_tensor(folder: Path) -> None:
    tensors = published_tensors(random_gpt(n_positions=64))
    del tensors["transformer.h.1.ln_1.weight"]
    save_file(tensors, folder / "model.safetensors")


def break_tokenizer(folder: Path) -> None:
    """A tokenizer with fewer tokens than the weights embed."""
    write_backbone(folder, random_gpt(n_positions=64, vocab_size=1000))


def break_tokenizer_too_large(folder: Path) -> None:
    content = json.loads(small_tokenizer().to_json())
    vocab = content["model"]["vocab"]
    vocab["extra"] = len(vocab)
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


def break_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def break_tokenizer_json(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", "utf-8")


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", "utf-8")


BROKEN: list[tuple[Callable[[Path], None], list[str]]] = [
    (break_truncated, ["model.safetensors"]),
    (break_zeros, ["model.safetensors", "4,096 bytes"]),
    (break_pickle, ["pytorch_model.bin", "save_pretrained"]),
    (break_no_weights, ["model.safetensors"]),
    (break_missing_tensor, ["'h.1.ln_1.weight'"]),
    (break_tokenizer, ["tokenizer", "261 tokens", "1,000"]),
    (break_tokenizer_too_large, ["tokenizer", "262 tokens", "261"]),
    (break_no_tokenizer, ["tokenizer.json"]),
    (break_tokenizer_json, ["tokenizer.json"]),
    (break_config, ["config.json", "JSON"]),
]


@pytest.mark.parametrize(("spoil", "names"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_backbone_that_cannot_be_loaded(
    spoil: Callable[[Path], None], names: list[str], reject: Reject, data: Path, backbone: Path, tmp_path: Path
) -> None:
    shutil.copytree(backbone, tmp_path / "gpt")
    spoil(tmp_path / "gpt")
    reject("train", data, "--backbone", "./gpt", "--out", "out", names=names)
    reject("info", "./gpt", names=names)


@pytest.mark.parametrize("command", [["predict", "run", "hello"], ["info", "run"]])
def test_a_run_with_truncated_weights(command: list[str], reject: Reject, run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    break_truncated(tmp_path / "run")
    reject(*command, names=["run/model.safetensors"])


# Using a run ------------------------------------------------------------------------------------------------------


def test_evaluate_with_a_label_the_classifier_does_not_know(reject: Reject, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text("what,eggs"), "utf-8")
    names = ["row 31 of a.csv", "'eggs'", "'ham', 'spam'", "--label"]
    reject("evaluate", run_dir, "a.csv", names=names)


def test_a_sentence_shows_values_as_they_are(reject: Reject, run_dir: Path, tmp_path: Path) -> None:
    """No emoji for :smile:, no colour for [red], one line though the label has two."""
    (tmp_path / "a.csv").write_text('text,label\nhi,":smile: [red]\nx"\n', "utf-8")
    reject("evaluate", run_dir, "a.csv", names=[r"':smile: [red]\nx'"])


PREDICT: list[tuple[list[str], list[str]]] = [
    ([], ["--input FILE"]),
    (["hello", "--input", "a.csv"], ["--input FILE"]),
    (["--input", "a.csv", "--output", "a.csv"], ["--output a.csv", "--input"]),
    (["--input", "a.csv", "--output", "no/b.csv"], ["--output no/b.csv", "folder no"]),
    (["hello", "--output", "b.csv"], ["--output", "--input FILE"]),
    (["--input", "-", "--id", "key"], ["--id", "--input FILE"]),
    (["--input", "none.csv"], ["none.csv"]),
    (["--input", "a.csv", "--output", "."], ["--output .", "folder"]),
    (["--input", "a.csv", "--output", os.devnull], [f"--output {os.devnull}", "device"]),
    (["--input", "a.csv", "--output", "b.xlsx"], ["b.xlsx", ".parquet"]),
    (["--input", "a.csv", "--id", "key"], ["'key'", "'text', 'label'"]),
    (["hello", "--device", "cuda"], ["--device cuda", "--device auto"]),
]


@pytest.mark.parametrize(("flags", "names"), PREDICT, ids=lambda value: "-".join(map(str, value)))
def test_predict_rejects_invalid_flags(
    flags: list[str],
    names: list[str],
    reject: Reject,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    reject("predict", run_dir, *flags, names=names)


def test_predict_leaves_no_output_when_a_row_is_bad(reject: Reject, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text("a,b,c"), "utf-8")
    reject(
        "predict", run_dir, "--input", "a.csv", "--output", "b.csv", "--strict", names=["row 31 (line 32)", "3 fields"]
    )


def test_predict_rejects_a_stdin_in_another_encoding(run_dir: Path) -> None:
    sentence = sentence_of(run_cli("predict", run_dir, "--input", "-", stdin=b"caf\xe9\n"), 2)
    assert "stdin" in sentence
    assert "utf-8" in sentence
    assert "--encoding" in sentence
    assert run_cli("predict", run_dir, "--input", "-", "--encoding", "cp1252", stdin=b"caf\xe9\n").code == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["generate", "B", ""], ["prompt", "empty"]),
        (["generate", "B", "a" * 65], ["prompt", "65 tokens", "64 positions"]),
        (["generate", "B", "a", "--temperature", "nan"], ["--temperature"]),
        (["generate", "B", "a", "--max-new-tokens", "0"], ["--max-new-tokens", "at least 1"]),
        (["generate", "B", "a", "--top-k", "0"], ["--top-k", "at least 1"]),
        (["ask", "B", "a.csv", "--answers", "spam"], ["--answers", "'spam'", "spam=yes,ham=no"]),
        (["ask", "B", "a.csv", "--answers", "spam=yes,ham=yes"], ["--answers", "'spam=yes,ham=yes'"]),
        (["ask", "B", "a.csv", "--answers", "spam=yes,ham=no", "--prompt", "well?"], ["--prompt", "'well?'", "{text}"]),
        (["ask", "B", "a.csv", "--answers", "spam=yes,ham=no", "--limit", "0"], ["--limit", "0", "at least 1"]),
        (["ask", "B", "a.csv", "--answers", "eggs=yes,ham=no"], ["row 1 of a.csv", "'spam'", "'eggs', 'ham'"]),
    ],
)
def test_generate_and_ask_reject_invalid_flags(
    arguments: list[str], names: list[str], reject: Reject, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    reject(*[str(backbone) if argument == "B" else argument for argument in arguments], names=names)


def test_fetch_of_an_unknown_name(reject: Reject) -> None:
    reject("fetch", "smollm2-135m-b16", "sms-span", names=["'sms-span'", "gpt2", "'sms-spam'"])
