"""What a user gets wrong, and what the machine refuses: one sentence that says what, where and what to do.

exit 2    the user's mistake: one line on stderr, nothing on stdout, nothing written anywhere
exit 1    the disk or we ourselves: one line, and no file that looks finished and is not
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import Answer, messages, published_tensors, random_gpt, run_cli, small_tokenizer, write_backbone
from safetensors.torch import save_file

FINAL = "metrics.json"
Refuse = Callable[..., str]


def snapshot(*folders: Path) -> dict[Path, bytes | None]:
    """Every file and folder, with the files' content."""
    found = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in found}


def sentence_of(answer: Answer, code: int) -> str:
    """The one line on stderr, after checking that it is one, and that stdout is empty."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.fixture
def refuse(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Run a command in tmp_path, quietly; it must refuse, write nothing, and say all of `says`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, says: list[str]) -> str:
        before = snapshot(tmp_path, own_cache)
        sentence = sentence_of(run_cli(*arguments, "--quiet"), 2)
        assert [part for part in says if part not in sentence] == [], sentence
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
    "empty": ("a.csv", b"", [], ["a.csv is empty", "column names"]),
    "only a header": ("a.csv", b"text,label\n", [], ["a.csv has columns 'text', 'label' but no rows", "add examples"]),
    "not UTF-8": (
        "a.csv",
        "text,label\ncafé,ham\n".encode("latin-1"),
        [],
        ["a.csv is not utf-8", "byte 0xe9 at byte offset 14", "--encoding cp1252"],
    ),
    "no such encoding": ("a.csv", b"text,label\n", ["--encoding", "utf-9"], ["--encoding is 'utf-9'", "cp1252"]),
    "wrong column": (
        "a.csv",
        csv_text().encode(),
        ["--text", "Texts"],
        ["no column 'Texts'", "it has 'text', 'label'"],
    ),
    "wrong label column": ("a.csv", csv_text().encode(), ["--label", "lable"], ["did you mean 'label'?"]),
    "no obvious column": ("a.csv", b"a,b,c\n1,2,3\n", [], ["which column", "'a', 'b', 'c'", "name it with --text"]),
    "one class only": (
        "a.csv",
        b"text,label\na,x\nb,x\n",
        [],
        ["a.csv has only one label, 'x'", "at least two labels"],
    ),
    "a class too small": (
        "a.csv",
        csv_text(*["odd,eggs"] * 4, *["odd,ham"] * 40).encode(),
        [],
        ["label 'eggs' of a.csv has 4 rows but only 1 independent", "add other texts of it"],
    ),
    "label missing": (
        "a.csv",
        csv_text("hello,").encode(),
        ["--strict"],
        ["row 31 (line 32) of a.csv has no label", "fill it in"],
    ),
    "text missing": (
        "a.csv",
        csv_text(" ,ham").encode(),
        ["--strict"],
        ["row 31 (line 32) of a.csv has no text", "fill it in"],
    ),
    "ragged": ("a.csv", csv_text("a,b,ham").encode(), [], ["row 31 (line 32)", "3 fields where 2 are", "quote fields"]),
    "open quote": ("a.csv", csv_text('"a,ham').encode(), [], ["row 31 (line 32)", "quote that is never closed"]),
    "malformed JSON": (
        "a.jsonl",
        b'{"text": "a", "label": "x"}\n{"text": "b", label: "y"}\n',
        [],
        ["row 2 (line 2) of a.jsonl is not JSON", "one object a line"],
    ),
    "JSON that is no object": ("a.jsonl", b"[1, 2]\n", [], ["row 1 (line 1)", "[1, 2]", "not a JSON object"]),
    "unreadable Parquet": (
        "a.parquet",
        b"PAR1 but torn",
        [],
        ["a.parquet cannot be read as Parquet", "write it again"],
    ),
    "torn gzip": (
        "a.csv.gz",
        gzip.compress(csv_text().encode())[:60],
        [],
        ["a.csv.gz is a broken gzip", "pack it again"],
    ),
    "another kind": ("a.xlsx", b"PK", [], ["a.xlsx", ".csv", ".jsonl", ".parquet", "--format"]),
}


@pytest.mark.parametrize("command", ["train", "split"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used(name: str, command: str, refuse: Refuse, tmp_path: Path) -> None:
    file, content, flags, says = UNUSABLE[name]
    (tmp_path / file).write_bytes(content)
    refuse(command, file, "--out", "out", *flags, says=says)


@pytest.mark.parametrize("command", ["train", "split"])
def test_a_file_that_is_missing(command: str, refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text(csv_text(), "utf-8")
    refuse(
        command, "mesages.csv", "--out", "out", says=["there is no file mesages.csv", "did you mean 'messages.csv'?"]
    )


@pytest.mark.parametrize("name", ["validation", "test"])
def test_splits_with_different_labels(name: str, refuse: Refuse, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.csv").write_text(csv_text(*["what,Spam"] * (split == name)), "utf-8")
    says = [f"row 31 of {name}.csv has label 'Spam', which is not one of 'ham', 'spam' in train.csv", "fix the row"]
    refuse("train", ".", "--out", "out", says=says)
    refuse("train", "train.csv", "--validation", "validation.csv", "--test", "test.csv", "--out", "out", says=says)


def test_a_folder_without_a_train_split(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/test.csv").write_text(csv_text(), "utf-8")
    refuse("train", "mine", "--out", "out", says=["mine has no train.csv", "it holds 'test.csv'"])


def test_notes_may_come_before_the_sentence_which_is_last(data: Path, tmp_path: Path) -> None:
    answer = run_cli("train", data, "--backbone", "gpt-2", "--out", tmp_path / "out")
    assert answer.code == 2
    *notes, last = answer.err.splitlines()
    assert last.startswith("error: there is no backbone 'gpt-2'")
    assert notes
    assert not any(note.startswith("error") for note in notes)


# Settings ---------------------------------------------------------------------------------------------------------

SETTINGS: list[tuple[list[object], list[str]]] = [
    (["--batch-size", 0], ["--batch-size is 0", "at least 1"]),
    (["--epochs", 0], ["--epochs is 0", "at least 1"]),
    (["--learning-rate", -1e-3], ["--learning-rate is -0.001", "above 0"]),
    (["--learning-rate", "nan"], ["--learning-rate is nan", "above 0"]),
    (["--train-fraction", 0.8, "--validation-fraction", 0.3], ["0.8", "0.3 add up to 1.1", "below 1"]),
    (["--train-fraction", 0.9, "--validation-fraction", 0.1], ["add up to 1;", "something", "for the test split"]),
    (["--train-fraction", 70], ["--train-fraction 70", "above 0 and below 1"]),
    (["--train-blocks", "two"], ["--train-blocks is 'two'", "head, all, or a number"]),
    (["--train-blocks", "²"], ["--train-blocks is '²'", "head, all, or a number"]),
    (["--train-blocks", 9], ["--train-blocks is 9", "has 3 blocks", "use 3 or all"]),
    (["--max-length", 65], ["--max-length is 65", "64 positions", "that or less"]),
    (["--cache-limit", "lots"], ["--cache-limit: 'lots' is not a size such as 500MB"]),
    (["--cache-limit", "1.2.3"], ["--cache-limit: '1.2.3' is not a size such as 500MB"]),
    (["--seed", 2**32], ["--seed is 4294967296", "below 4,294,967,296"]),
    (["--device", "cuda"], ["--device cuda", "none here", "use --device auto"]),
    (["--recipe", "book", "--batch-size", 64], ["--batch-size is 64", "train has 42 rows", "incomplete batches"]),
    (["--config", "none.toml"], ["--config: there is no file none.toml"]),
]


@pytest.mark.parametrize(("flags", "says"), SETTINGS, ids=lambda value: "-".join(map(str, value)))
def test_a_setting_that_cannot_be_meant(
    flags: list[object], says: list[str], refuse: Refuse, data: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuse("train", data, "--backbone", backbone, "--out", "out", *flags, says=says)


USAGE: list[tuple[list[object], list[str]]] = [
    (["train", "a.csv", "--epoch", 5], ["--epoch", "lasttoken train --help"]),
    (["train", "a.csv", "--read", "lst"], ["--read", "'lst'", "'last'", "'padded-last'", "lasttoken train --help"]),
    (["train", "a.csv", "--epochs", "five"], ["--epochs", "integer", "lasttoken train --help"]),
    (["train", "a.csv", "--epochs"], ["--epochs"]),
    (["train", "a.csv", "b.csv"], ["b.csv", "lasttoken train --help"]),
    (["trian"], ["'trian'", "lasttoken --help"]),
    (["evaluate", "runs/spam"], ["data", "lasttoken evaluate --help"]),
]


@pytest.mark.parametrize(("arguments", "says"), USAGE, ids=lambda value: "-".join(map(str, value)))
def test_a_command_line_that_is_not_understood(arguments: list[object], says: list[str]) -> None:
    sentence = sentence_of(run_cli(*arguments), 2)
    assert [part for part in says if part not in sentence] == [], sentence
    assert len(sentence) < 200


CONFIGS: list[tuple[str, list[str]]] = [
    ("epochs = ", ["cannot be read as TOML"]),
    ("epocs = 3\n", ["sets 'epocs', which is no setting", "did you mean 'epochs'?"]),
    ('epochs = "3"\n', ["--epochs is '3'", "type int"]),
    ("recipe = 5\n", ["--recipe is 5", "'default', 'book'"]),
    ('recipe = "bok"\n', ["--recipe is 'bok'", "did you mean 'book'?"]),
    ("data = 5\n", ["sets data to 5", "must be a path"]),
    ("text = [5]\n", ["--text", "5", "a list of names"]),
    ("settings = 5\n", ["[settings]", "must be a table"]),
]


@pytest.mark.parametrize(("content", "says"), CONFIGS)
def test_a_config_file_that_cannot_be_used(
    content: str, says: list[str], refuse: Refuse, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text(content, "utf-8")
    refuse("train", data, "--config", "my.toml", "--out", "out", says=says)


def test_no_data_at_all(refuse: Refuse) -> None:
    refuse("train", says=["there is no data", "lasttoken train messages.csv"])


def test_resume_without_a_place(refuse: Refuse) -> None:
    refuse("train", "--resume", says=["--resume needs --out"])


# Places -----------------------------------------------------------------------------------------------------------


def test_a_directory_that_holds_a_finished_run(refuse: Refuse, run_dir: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "done")
    refuse("train", data, "--out", "done", says=["done holds a finished run", "pass --overwrite"])
    refuse("train", "--resume", "--out", "done", says=["done is finished", "nothing to resume", "--overwrite"])
    refuse("demo", "--out", "done", says=["done holds a finished run", "pass --overwrite"])


@pytest.mark.parametrize("command", ["train", "split"])
def test_a_file_where_a_folder_is_needed(command: str, refuse: Refuse, data: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine", "utf-8")
    refuse(command, data, "--out", "taken", says=["--out taken is a file", "give a folder"])


def test_a_folder_of_other_files(refuse: Refuse, data: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    refuse(
        "train", data, "--out", "photos", says=["photos is not empty and holds no run", "'cat.jpg'", "another --out"]
    )


@pytest.mark.parametrize("command", [["predict", "half", "hello"], ["evaluate", "half", "a.csv"], ["info", "half"]])
def test_a_run_without_metrics(command: list[str], refuse: Refuse, run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "half")
    (tmp_path / "half/metrics.json").unlink()
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    refuse(*command, says=["half has no metrics.json", "not finished", "lasttoken train --resume --out half"])


@pytest.mark.parametrize("command", [["predict", "runs/spam", "hello"], ["evaluate", "runs/spam", "a.csv"]])
def test_a_run_that_is_not_there(command: list[str], refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    refuse(*command, says=["there is no run directory runs/spam", "lasttoken train --out"])


def test_info_about_what_is_neither(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse("info", "spam", says=["there is no run directory spam", "no backbone 'spam'", "'gpt2'"])
    refuse("info", "empty", says=["empty is neither a run directory nor a backbone"])


# Backbones and runs that are broken -------------------------------------------------------------------------------


def test_an_unknown_backbone_names_the_nearest(refuse: Refuse, data: Path) -> None:
    says = ["there is no backbone 'gpt2-meduim'", "did you mean 'gpt2-medium'", "'pocket'", "a hub id", "a folder"]
    refuse("train", data, "--backbone", "gpt2-meduim", "--out", "out", says=says)
    refuse("generate", "gpt2-meduim", "Every effort", says=says)


def break_torn(folder: Path) -> None:
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
    (break_torn, ["model.safetensors", "bytes) is torn or not safetensors", "fetch it again"]),
    (break_zeros, ["model.safetensors", "(4,096 bytes) is torn or not safetensors"]),
    (break_pickle, ["only pytorch_model.bin", "can run code", "save_pretrained"]),
    (break_no_weights, ["holds no model.safetensors"]),
    (break_missing_tensor, ["lacks the tensors 'h.1.ln_1.weight'"]),
    (break_tokenizer, ["the tokenizer in", "261 tokens but the weights embed 1,000", "do not belong together"]),
    (break_tokenizer_too_large, ["the tokenizer in", "262 tokens but the weights embed 261"]),
    (break_no_tokenizer, ["holds no tokenizer", "tokenizer.json"]),
    (break_tokenizer_json, ["tokenizer.json cannot be read as a tokenizer"]),
    (break_config, ["config.json cannot be read as JSON"]),
]


@pytest.mark.parametrize(("spoil", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_backbone_that_cannot_be_loaded(
    spoil: Callable[[Path], None], says: list[str], refuse: Refuse, data: Path, backbone: Path, tmp_path: Path
) -> None:
    shutil.copytree(backbone, tmp_path / "gpt")
    spoil(tmp_path / "gpt")
    refuse("train", data, "--backbone", "./gpt", "--out", "out", says=says)
    refuse("info", "./gpt", says=says)


@pytest.mark.parametrize("command", [["predict", "run", "hello"], ["info", "run"]])
def test_a_run_with_torn_weights(command: list[str], refuse: Refuse, run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    break_torn(tmp_path / "run")
    refuse(*command, says=["run/model.safetensors", "is torn or not safetensors"])


# Using a run ------------------------------------------------------------------------------------------------------


def test_evaluate_with_a_label_the_classifier_does_not_know(refuse: Refuse, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text("what,eggs"), "utf-8")
    says = ["row 31 of a.csv has label 'eggs'", "not one of the classifier's 'ham', 'spam'", "--label"]
    refuse("evaluate", run_dir, "a.csv", says=says)


def test_a_sentence_shows_values_as_they_are(refuse: Refuse, run_dir: Path, tmp_path: Path) -> None:
    """No emoji for :smile:, no colour for [red], one line though the label has two."""
    (tmp_path / "a.csv").write_text('text,label\nhi,":smile: [red]\nx"\n', "utf-8")
    refuse("evaluate", run_dir, "a.csv", says=[r"has label ':smile: [red]\nx'"])


PREDICT: list[tuple[list[str], list[str]]] = [
    ([], ["give either texts", "--input FILE"]),
    (["hello", "--input", "a.csv"], ["give either texts", "--input FILE"]),
    (["--input", "a.csv", "--output", "a.csv"], ["--output a.csv is the file that --input reads"]),
    (["--input", "a.csv", "--output", "no/b.csv"], ["there is no folder no", "make it first"]),
    (["hello", "--output", "b.csv"], ["--output goes with --input FILE only"]),
    (["--input", "-", "--id", "key"], ["--id goes with --input FILE only"]),
    (["--input", "none.csv"], ["there is no file none.csv"]),
    (["--input", "a.csv", "--output", "."], ["--output . is a folder or a device", "give a file"]),
    (["--input", "a.csv", "--output", os.devnull], ["is a folder or a device"]),
    (["--input", "a.csv", "--output", "b.xlsx"], ["b.xlsx", ".parquet"]),
    (["--input", "a.csv", "--id", "key"], ["no column 'key'", "'text', 'label'"]),
    (["hello", "--device", "cuda"], ["--device cuda", "none here", "use --device auto"]),
]


@pytest.mark.parametrize(("flags", "says"), PREDICT, ids=lambda value: "-".join(map(str, value)))
def test_predict_refuses(
    flags: list[str],
    says: list[str],
    refuse: Refuse,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    refuse("predict", run_dir, *flags, says=says)


def test_predict_leaves_no_output_when_a_row_is_bad(refuse: Refuse, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text("a,b,c"), "utf-8")
    refuse(
        "predict", run_dir, "--input", "a.csv", "--output", "b.csv", "--strict", says=["row 31 (line 32)", "3 fields"]
    )


def test_predict_refuses_a_stdin_in_another_encoding(run_dir: Path) -> None:
    sentence = sentence_of(run_cli("predict", run_dir, "--input", "-", stdin=b"caf\xe9\n"), 2)
    assert "stdin is not utf-8" in sentence
    assert "--encoding" in sentence
    assert run_cli("predict", run_dir, "--input", "-", "--encoding", "cp1252", stdin=b"caf\xe9\n").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "B", ""], ["the prompt is empty"]),
        (["generate", "B", "a" * 65], ["the prompt has 65 tokens", "64 positions"]),
        (["generate", "B", "a", "--temperature", "nan"], ["--temperature"]),
        (["generate", "B", "a", "--max-new-tokens", "0"], ["--max-new-tokens", "at least 1"]),
        (["generate", "B", "a", "--top-k", "0"], ["--top-k", "at least 1"]),
        (["ask", "B", "a.csv", "--answers", "spam"], ["--answers is 'spam'", "spam=yes,ham=no"]),
        (["ask", "B", "a.csv", "--answers", "spam=yes,ham=yes"], ["different answers"]),
        (["ask", "B", "a.csv", "--answers", "spam=yes,ham=no", "--prompt", "well?"], ["it must hold {text}"]),
        (["ask", "B", "a.csv", "--answers", "spam=yes,ham=no", "--limit", "0"], ["--limit is 0", "at least 1"]),
        (["ask", "B", "a.csv", "--answers", "eggs=yes,ham=no"], ["row 1 of a.csv has label 'spam'", "'eggs', 'ham'"]),
    ],
)
def test_generate_and_ask_refuse(
    arguments: list[str], says: list[str], refuse: Refuse, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(csv_text(), "utf-8")
    refuse(*[str(backbone) if argument == "B" else argument for argument in arguments], says=says)


def test_fetch_of_an_unknown_name(refuse: Refuse) -> None:
    refuse("fetch", "pocket", "sms-span", says=["no 'sms-span' to fetch", "'gpt2-xl'", "did you mean 'sms-spam'?"])


# Exit 1: what fails, and is not the user's mistake ----------------------------------------------------------------


def fail_on(monkeypatch: pytest.MonkeyPatch, part: str, number: int) -> None:
    """Refuse, with this errno, every write to a path that holds `part`: opening, renaming and making folders."""

    def guarded(function: Callable[..., Any], path_at: int, writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            path = str(arguments[path_at])
            if part in path and writes(*arguments[1:], **named):
                raise OSError(number, os.strerror(number), path)
            return function(*arguments, **named)

        return call

    def opens_to_write(mode: str = "r", *_: object, **__: object) -> bool:
        return mode[0] in "wax"

    monkeypatch.setattr(Path, "open", guarded(Path.open, 0, opens_to_write))
    monkeypatch.setattr(os, "replace", guarded(os.replace, 1, lambda *_: True))
    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, 0, lambda *_: True))


@pytest.mark.parametrize(
    "part",
    ["train.csv", "run.toml", "history.jsonl", "model.safetensors", "config.json", "report.html", "metrics.json"],
)
def test_a_full_disk_is_one_sentence_and_the_next_run_works(
    part: str, data: Path, backbone: Path, tmp_path: Path
) -> None:
    train = ("train", data, "--backbone", backbone, "--out", tmp_path / "run", "--epochs", 1, "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, f"run/{part}" if part != "train.csv" else part, errno.ENOSPC)
        sentence = sentence_of(run_cli(*train), 1)
    assert "the disk is full: could not write" in sentence
    assert part in sentence
    assert "free some space" in sentence
    assert not (tmp_path / "run" / FINAL).exists()
    assert not list((tmp_path / "run").rglob("*.tmp-*"))
    assert run_cli("predict", tmp_path / "run", "hello").code == 2
    assert run_cli(*train).code == 0
    assert (tmp_path / "run" / FINAL).exists()


@pytest.mark.usefixtures("own_cache")
def test_a_disk_too_full_for_features_only_slows_the_training(
    data: Path, backbone: Path, tmp_path: Path, run_dir: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "features", errno.ENOSPC)
        answer = run_cli("train", data, "--backbone", backbone, "--out", tmp_path / "run", "--epochs", 1)
    assert answer.code == 0, answer.err
    assert "the features of train" in answer.err
    assert "the disk is full" in answer.err
    assert "the trunk runs for every batch" in answer.err
    assert (tmp_path / "run" / FINAL).exists()


@pytest.mark.parametrize("command", ["train", "split"])
def test_no_permission_to_write_is_one_sentence(command: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    backbone_flags = ("--backbone", backbone) if command == "train" else ()
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "locked", errno.EACCES)
        sentence = sentence_of(run_cli(command, data, *backbone_flags, "--out", tmp_path / "locked", "--quiet"), 1)
    assert f"no permission to write {tmp_path / 'locked'}" in sentence
    assert "choose another place" in sentence
    assert snapshot(tmp_path) == {}


def test_no_permission_to_write_predictions(run_dir: Path, data: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "locked", errno.EROFS)
        flags = ("--input", data, "--output", tmp_path / "locked.csv", "--quiet")
        sentence = sentence_of(run_cli("predict", run_dir, *flags), 1)
    assert "no permission to write" in sentence
    assert snapshot(tmp_path) == {}


def test_overwriting_that_fails_leaves_no_finished_run(
    run_dir: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    """Neither the old figures beside new weights, nor the old weights as if they were whole."""
    shutil.copytree(run_dir, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "train.csv", errno.ENOSPC)
        flags = ("--backbone", backbone, "--out", tmp_path / "run", "--overwrite", "--quiet")
        sentence_of(run_cli("train", data, *flags), 1)
    assert {path.name for path in (tmp_path / "run").rglob("*")} == {"run.toml", "splits"}


def test_an_error_of_ours_keeps_its_traceback_in_a_log_file(
    data: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr("lasttoken.runs.session.load_backbone", broken)
    sentence = sentence_of(run_cli("train", data, "--out", tmp_path / "run", "--quiet"), 1)
    assert "an error of ours, RuntimeError: a bug of two lines" in sentence
    (log,) = (own_cache / "logs").iterdir()
    assert f"the traceback is in {log}" in sentence
    content = log.read_text("utf-8")
    assert content.startswith("lasttoken train --out --quiet\n")
    assert "in broken" in content
    assert "raise RuntimeError" in content


def test_an_error_of_ours_is_told_though_the_log_cannot_be_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lasttoken.runs.session.load_backbone", lambda *_: 1 / 0)
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "logs", errno.ENOSPC)
        sentence = sentence_of(run_cli("train", data, "--out", tmp_path / "run", "--quiet"), 1)
    assert "ZeroDivisionError: division by zero; its traceback could not be written" in sentence


def test_ctrl_c_before_the_training_is_one_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lasttoken.runs.session.load_backbone", interrupted)
    sentence = sentence_of(run_cli("train", data, "--out", tmp_path / "run", "--quiet"), 130)
    assert "interrupted" in sentence
    assert snapshot(tmp_path) == {}
