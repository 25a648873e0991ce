"""Runs that were trained on a backbone of an earlier version, which the package no longer has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import POCKET, messages, run_cli, write_messages
from run_folders import unfinished

from lasttoken.core.default_backbone import BUNDLED


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", *messages(40))


def record(out: Path) -> None:
    """Let a run say that it was trained on `pocket`, as those of earlier versions do."""
    for name in ("config.json", "run.toml", "metrics.json"):
        path = out / name
        if path.is_file():
            path.write_text(path.read_text("utf-8").replace(POCKET, "pocket"), "utf-8")


def test_a_finished_run_works_as_before(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    answer = run_cli("train", data, "--backbone", POCKET, "--epochs", 2, "--out", out)
    assert answer.code == 0, answer.err
    record(out)
    facts = json.loads(run_cli("info", out, "--json").out)
    assert facts["backbone"] == facts["settings"]["backbone"] == "pocket"
    text = messages(1)[0][0]
    assert run_cli("predict", out, text).out.startswith("spam\t")
    assert run_cli("evaluate", out, data).code == 0
    for to in ("hf", "onnx"):
        answer = run_cli("export", out, "--to", to, "--out", tmp_path / to)
        assert answer.code == 0, answer.err


def test_an_unfinished_run_says_which_folder_it_needs_and_continues_with_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    unfinished(data, Path(POCKET), out, monkeypatch)
    record(out)
    answer = run_cli("train", data, "--resume", "--out", out)
    assert answer.code == 2
    (sentence,) = answer.err.splitlines()[-1:]
    for fact in ("'pocket'", "no longer", BUNDLED, "--backbone"):
        assert fact in sentence
    again = run_cli("train", data, "--resume", "--backbone", POCKET, "--out", out)
    assert again.code == 0, again.err
