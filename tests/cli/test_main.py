"""Failures become one sentence and exit code 1, and leave no file that looks finished."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.sentences import sentence_of, snapshot
from miniature import run_cli

FINAL = "metrics.json"


def fail_on(monkeypatch: pytest.MonkeyPatch, part: str, number: int) -> None:
    """Fail every write to a path that contains `part` with this errno: opening, renaming and creating folders."""

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
    assert "disk is full" in sentence
    assert part in sentence
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
    assert "features of train" in answer.err
    assert "disk is full" in answer.err
    assert (tmp_path / "run" / FINAL).exists()


@pytest.mark.parametrize("command", ["train", "split"])
def test_no_permission_to_write_is_one_sentence(command: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    backbone_flags = ("--backbone", backbone) if command == "train" else ()
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "locked", errno.EACCES)
        sentence = sentence_of(run_cli(command, data, *backbone_flags, "--out", tmp_path / "locked", "--quiet"), 1)
    assert "no permission" in sentence
    assert str(tmp_path / "locked") in sentence
    assert snapshot(tmp_path) == {}


def test_no_permission_to_write_predictions(run_dir: Path, data: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "locked", errno.EROFS)
        flags = ("--input", data, "--output", tmp_path / "locked.csv", "--quiet")
        sentence = sentence_of(run_cli("predict", run_dir, *flags), 1)
    assert "no permission" in sentence
    assert "locked.csv" in sentence
    assert snapshot(tmp_path) == {}


def test_overwriting_that_fails_leaves_no_finished_run(
    run_dir: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    """Neither the old metrics beside new weights, nor the old weights as a run that looks finished."""
    shutil.copytree(run_dir, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "train.csv", errno.ENOSPC)
        flags = ("--backbone", backbone, "--out", tmp_path / "run", "--overwrite", "--quiet")
        sentence_of(run_cli("train", data, *flags), 1)
    assert {path.name for path in (tmp_path / "run").rglob("*")} == {"run.toml", "splits"}


def test_the_traceback_of_an_internal_error_is_in_a_log_file(
    data: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr("lasttoken.runs.session.load_backbone", broken)
    sentence = sentence_of(run_cli("train", data, "--out", tmp_path / "run", "--quiet"), 1)
    assert "internal error, RuntimeError: a bug of two lines" in sentence
    (log,) = (own_cache / "logs").iterdir()
    assert str(log) in sentence
    content = log.read_text("utf-8")
    assert content.startswith("lasttoken train --out --quiet\n")
    assert "in broken" in content
    assert "raise RuntimeError" in content


def test_an_internal_error_is_reported_even_if_its_log_cannot_be_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lasttoken.runs.session.load_backbone", lambda *_, **__: 1 / 0)
    with pytest.MonkeyPatch.context() as patch:
        fail_on(patch, "logs", errno.ENOSPC)
        sentence = sentence_of(run_cli("train", data, "--out", tmp_path / "run", "--quiet"), 1)
    assert "ZeroDivisionError: division by zero" in sentence
    assert "could not be written" in sentence


def test_ctrl_c_before_the_training_is_one_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lasttoken.runs.session.load_backbone", interrupted)
    sentence = sentence_of(run_cli("train", data, "--out", tmp_path / "run", "--quiet"), 130)
    assert "interrupted" in sentence
    assert snapshot(tmp_path) == {}


def test_ctrl_c_after_the_training_has_begun_names_the_run_and_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("lasttoken.runs.train._judge", interrupted)
        answer = run_cli("train", data, "--backbone", backbone, "--out", out, "--epochs", 1)
    assert answer.code == 130
    assert f"{out} is unfinished" in answer.err
    assert "--resume" in answer.err
    assert run_cli("train", data, "--backbone", backbone, "--out", out, "--epochs", 1, "--resume").code == 0


def test_a_file_name_that_is_too_long_is_not_an_internal_error(run_dir: Path, data: Path, tmp_path: Path) -> None:
    sentence = sentence_of(run_cli("predict", run_dir, "--input", data, "--output", tmp_path / ("n" * 300)), 1)
    assert "too long" in sentence
    assert "internal error" not in sentence


def test_a_file_in_place_of_the_folder_of_an_output_is_named(run_dir: Path, data: Path) -> None:
    sentence = sentence_of(run_cli("predict", run_dir, "--input", data, "--output", data / "a.csv"), 2)
    assert f"{data} is a file" in sentence


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "a.csv", "--epochs", "two"), ("--epochs is 'two'", "whole number", "lasttoken train --help")),
        (("train", "a.csv", "--learning-rate", "fast"), ("--learning-rate is 'fast'", "a number")),
        (("serve", "run", "--port", "1.5"), ("--port is '1.5'", "whole number")),
        (("train", "a.csv", "--epoch", "3"), ("--epoch;", "mean --epochs?", "lasttoken train --help")),
        (("predict", "run", "--inptu", "a.csv"), ("--inptu;", "mean --input?", "put -- before it")),
        (("trian", "a.csv"), ("'trian';", "mean train?", "lasttoken --help")),
        (("frobnicate",), ("no command 'frobnicate';",)),
    ],
)
def test_wrong_arguments_are_named_with_what_is_right(arguments: tuple[str, ...], named: tuple[str, ...]) -> None:
    sentence = sentence_of(run_cli(*arguments), 2)
    assert [part for part in named if part not in sentence] == []
